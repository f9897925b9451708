"""``label``: draws boxes on images in a notebook; the result is a data set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.folder import CocoFolder
from sparse_rcnn_lab.data.coco.held_out import split_images
from sparse_rcnn_lab.data.coco.labelled_folder import read_labelled_folder
from sparse_rcnn_lab.data.coco.project import Project
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.files import write_text
from sparse_rcnn_lab.detect.images import read_image
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.training.teach.suggest import Suggestions
from sparse_rcnn_lab.views.bundle import joined
from sparse_rcnn_lab.views.draw import as_image, data_uri, encoded
from sparse_rcnn_lab.views.explorer import html_page
from sparse_rcnn_lab.views.static import is_static
from sparse_rcnn_lab.views.style import CLASS_COLORS

_HERE = Path(__file__).parent
_SHARED = ("dom", "colors", "labels", "theme")  # of the explorer
_OWN = ("frames", "sheet", "labeller")
_SHOWN = 640  # largest side of an image on the page, pixels
_QUALITY = 80


def label(
    images: str | Path | Sequence[Any],
    classes: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    model: str | Path | Detector | None = "small-everyday",
    theme: str = "auto",
) -> Labels:
    """Opens a labeller in a notebook; every box is on disk as soon as it is drawn.

    images: a folder of images, with labels (COCO, Pascal VOC or YOLO, whose boxes are then there)
    or without; or a list of images, each a path, a PIL image, an array or a tensor.
    classes: names to begin with; more can be added on the page.
    out: the folder for the labels and copies of the images; default: ``labels/`` and the folder's
    name. Labels that are there already are opened again, and ``images`` is then not used.
    model: suggests boxes to accept; None: no suggestions.  theme: "auto", "light" or "dark".

    The result is a data set: ``srl.fit(labels.train, recipe, val=labels.val)``. Raises LabError
    where there is no image, or no such model.

    >>> import tempfile
    >>> import sparse_rcnn_lab as srl
    >>> drawn = srl.Shapes(3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     labels = label([s.image for s in drawn], ["heart"], out=folder, model=None)
    ...     labels.set(1, [("heart", (10, 10, 40, 40))])
    ...     print(labels, labels.data[0].boxes.tolist())
    Labels(3 images, 1 labelled, 1 boxes; heart) [[10.0, 10.0, 40.0, 40.0]]
    """
    if theme not in ("auto", "light", "dark"):
        raise LabError(f'theme must be "auto", "light" or "dark", found {theme!r}.')
    name = "images"
    if isinstance(images, str | Path):
        whole = Path(images).resolve()
        name = whole.name if whole.is_dir() else whole.stem  # a folder's name may have dots
    folder = Path(out) if out is not None else Path("labels") / name
    project, notes = Project(folder), []
    if len(project):
        notes = [f'Opened again: the {len(project)} images in "{folder}". None was added.']
    elif isinstance(images, str | Path):
        notes = project.take_over(read_labelled_folder(images))
    else:
        alone = isinstance(images, Image.Image) or getattr(images, "ndim", 0) in (2, 3)
        several: Any = [images] if alone else images
        if not isinstance(several, Iterable):
            raise LabError(f"Give a folder of images, or a list of them; found {images!r:.80}.")
        for image in several:
            # Written later, with the classes, so that a list with a wrong path leaves nothing.
            project.add(read_image(image), write=False)
    if not len(project):
        raise LabError("There is no image to label. Give a folder of images, or a list of them.")
    classes = [classes] if isinstance(classes, str) else classes
    missing = [c for c in classes if c.casefold() not in map(str.casefold, project.class_names)]
    project.set_classes([*project.class_names, *missing])
    detector = load(model) if isinstance(model, str | Path) else model
    for note in notes:
        print(note)
    return Labels(project, detector, theme, tuple(notes))


class Labels:
    """Images and the boxes drawn on them. As the last line of a notebook cell it shows the page.

    folder: where they are stored.  notes: what was printed about the given images.
    """

    def __init__(
        self, project: Project, detector: Detector | None, theme: str, notes: tuple[str, ...] = ()
    ) -> None:
        self.project, self.notes, self._theme = project, notes, theme
        self._suggestions = None if detector is None else Suggestions(detector)
        self._widget: Any = None

    @property
    def folder(self) -> Path:
        """The folder of images and labels."""
        return self.project.folder

    @property
    def data(self) -> CocoFolder:
        """All labelled images. Raises LabError where no box is drawn."""
        document = self.project.coco()
        ids = [row["id"] for row in document["images"] if row["labelled"]]
        return self._written("labelled", ids)

    @property
    def train(self) -> CocoFolder:
        """The images to train on. Raises LabError as :func:`split_images` does."""
        return self._written("train", split_images(self.project.coco(), self.project.images).train)

    @property
    def val(self) -> CocoFolder:
        """The held-out images: whole moments, so that no neighbouring frame is trained on."""
        return self._written("val", split_images(self.project.coco(), self.project.images).val)

    def set(self, image: int, boxes: Sequence[tuple[str, Sequence[float]]]) -> None:
        """Labels image number 1, 2, ... from a program. boxes: (class, xyxy in pixels) pairs."""
        self.project.label(image, [{"name": name, "box": list(box)} for name, box in boxes])
        self._widget = None  # the next widget has them

    @property
    def widget(self) -> Any:
        """The ipywidget, to combine with others. It needs the extra ``notebooks``."""
        if self._widget is None:
            self._widget = _widget_class()(
                frames=frames_of(self.project, self._shown),
                classes=list(self.project.class_names),
                colors=list(CLASS_COLORS),
                theme=self._theme,
                proposes=self._suggestions is not None,
            )
            self._widget.on_msg(lambda widget, content, _: widget.send(self._answer(content)))
        return self._widget

    def _shown(self, row: dict[str, Any]) -> str:
        image = as_image(read_image(self.project.images / row["file_name"]))
        image.thumbnail((_SHOWN, _SHOWN))
        return data_uri(encoded(image, quality=_QUALITY))

    def _written(self, name: str, ids: Sequence[int]) -> CocoFolder:
        path = self.folder / f"{name}.json"
        write_text(path, json.dumps(self.project.coco(ids)) + "\n")
        return CocoFolder(path, name, images=self.project.images)

    def _answer(self, content: dict[str, Any]) -> dict[str, Any]:
        """The answer to a message of the page."""
        answer: dict[str, Any] = {"serial": content.get("serial")}
        try:
            answer["answer"] = self._do(content)
        except LabError as error:
            answer["error"] = str(error)
        return answer

    def _do(self, content: dict[str, Any]) -> Any:
        kind = content.get("kind")
        if kind == "classes":
            self.project.set_classes(content["names"], content["renamed"])
            self._update_widget()
            return None
        image = content["id"]
        if kind == "label":
            row = self.project.label(image, content["boxes"], bool(content["labelled"]))
            self._update_widget(row)
            return row
        if kind == "propose" and self._suggestions is not None:
            return offers_for(self.project, self._suggestions, image)
        raise LabError(f"The page asked for {kind!r}, which is unknown.")

    def _update_widget(self, row: dict[str, Any] | None = None) -> None:
        """Gives the widget the boxes of one image, or of all, since a page that is shown or loaded
        again begins with them and would overwrite what was drawn later.
        """
        if self._widget is None:
            return
        for frame in self._widget.frames:  # in place, as the open page has them already
            if row is None or row["id"] == frame["id"]:
                frame["boxes"] = self.project.boxes(frame["id"])
                frame["labelled"] = (row or frame)["labelled"]
        self._widget.classes = list(self.project.class_names)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        if is_static():  # a page of outputs is being made, without a kernel that could save a box
            return {"text/plain": repr(self)}
        return self.widget._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        document = self.project.coco()
        done = sum(row["labelled"] for row in document["images"])
        return (
            f"Labels({len(document['images'])} images, {done} labelled, "
            f"{len(document['annotations'])} boxes; {', '.join(self.project.class_names)})"
        )


def frames_of(project: Project, url: Any) -> list[dict[str, Any]]:
    """The images in the page's form. url: returns the address of a row's image."""
    rows = project.coco()["images"]
    wanted = ("id", "width", "height", "labelled")
    return [
        {**{k: row[k] for k in wanted}, "url": url(row), "boxes": project.boxes(row["id"])}
        for row in rows
    ]


def offers_for(project: Project, suggestions: Suggestions, image: int) -> list[dict[str, Any]]:
    """The boxes to offer on an image, after learning from what was drawn on the others."""
    names = project.class_names
    suggestions.follow(
        {
            row["id"]: [(box["name"], box["box"]) for box in project.boxes(row["id"])]
            for row in project.coco()["images"]
            if row["labelled"] and row["id"] != image
        },
        project.pixels,
    )
    return [
        {"name": o.name, "box": [round(v, 1) for v in o.box], "score": round(o.score, 2)}
        for o in suggestions.offers(project.pixels(image), names)
    ]


def files() -> list[Path]:
    """The labeller's JavaScript files in order; the last one exports ``createLabeller``."""
    shared = [html_page.HERE / "js" / f"{name}.js" for name in _SHARED]
    return [*shared, *(_HERE / "js" / f"{name}.js" for name in _OWN)]


def css() -> str:
    """The explorer's style sheet and the labeller's."""
    return html_page.css() + (_HERE / "labeller.css").read_text(encoding="utf-8")


@cache
def _widget_class() -> type[Any]:
    try:
        import anywidget
        import traitlets
    except ImportError:
        raise LabError(
            'The labeller in a notebook needs anywidget: pip install "sparse-rcnn-lab[notebooks]".'
        ) from None

    class LabellerWidget(anywidget.AnyWidget):
        _esm = joined([*files(), _HERE / "js" / "widget.js"])
        _css = css()
        frames = traitlets.List().tag(sync=True)
        classes = traitlets.List().tag(sync=True)
        colors = traitlets.List().tag(sync=True)
        theme = traitlets.Unicode("auto").tag(sync=True)
        proposes = traitlets.Bool(False).tag(sync=True)

        def __repr__(self) -> str:
            """The text where no widget is shown."""
            return "The labeller: run this cell to see it."

    return LabellerWidget
