"""The app as named endpoints, one a tab: docs/app.md shows how to call them.

The names of the parameters are part of the interface.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import gradio as gr

from sparse_rcnn_lab.app.bench import SHOWN, Bench, Dials
from sparse_rcnn_lab.app.clips import open_clip
from sparse_rcnn_lab.app.dials import as_dials, as_number
from sparse_rcnn_lab.app.events import explained, path_alone
from sparse_rcnn_lab.app.filming import annotate
from sparse_rcnn_lab.app.frames import as_jpeg, look_at
from sparse_rcnn_lab.app.keepsakes import coco_results, fresh_file, keepsake
from sparse_rcnn_lab.app.pictures import Picture, read_picture
from sparse_rcnn_lab.core.errors import LabError

Found = dict[str, Any]


class Api:
    """Hangs the endpoints on the current page; nothing of it can be seen there."""

    def __init__(self, bench: Bench, start: Dials) -> None:
        self.bench = bench
        with gr.Column(visible=False):
            picture = gr.Image(type="filepath", label="picture")
            picture.preprocess = path_alone
            video = gr.Video(label="video")
            video.preprocess = path_alone
            dials = [
                gr.Textbox(start.model, label="model"),
                *_numbers(start),
                gr.Number(start.threshold, label="threshold"),
                gr.Textbox(SHOWN[0], label="show"),
                gr.JSON([], label="classes"),
            ]
            other = [gr.Textbox(start.model, label="other model"), *_numbers(start)]
            rate = gr.Number(15, label="frames_per_second")
            image = gr.Image(type="filepath", format="jpeg", label="annotated")
            second = gr.Image(type="filepath", format="jpeg", label="other annotated")
            clip = gr.Video(label="annotated")
            page = gr.File(label="page")
            found = gr.JSON(label="detections")
            button = gr.Button()
        for name, function, inputs, outputs in (
            ("models", self.models, [], [found]),
            ("live", self.live, [picture, *dials], [image, found]),
            ("photo", self.photo, [picture, *dials], [image, found]),
            ("video", self.video, [video, *dials, rate], [clip, found]),
            ("compare", self.compare, [picture, *dials, *other], [image, second, found]),
            ("explore", self.explore, [picture, *dials], [page]),
        ):
            button.click(
                explained(function),
                inputs,
                outputs,
                api_name=name,
                api_description=function.__doc__,
                concurrency_id="video" if name == "video" else None,
                show_progress="hidden",
            )

    def models(self) -> list[Found]:
        """The models that the other endpoints take by name; a published one is fetched first."""
        return [{"name": name, "label": label} for label, name in self.bench.models.choices()]

    def live(
        self,
        picture: str | None,
        model: str,
        proposals: float,
        stage: float,
        threshold: float,
        show: str,
        classes: Any,
    ) -> tuple[str, Found]:
        """One frame, as the webcam's are: stages after the chosen one do not run."""
        dials = _read(model, proposals, stage, threshold, show, classes)
        seen = look_at(self.bench, self._picture(picture).pixels, dials)
        path = fresh_file("frame.jpg")
        path.write_bytes(as_jpeg(seen.image))
        found = [] if seen.found is None else seen.found.to_coco()
        return str(path), {"milliseconds": round(seen.milliseconds, 1), "annotations": found}

    def photo(
        self,
        picture: str | None,
        model: str,
        proposals: float,
        stage: float,
        threshold: float,
        show: str,
        classes: Any,
    ) -> tuple[str, Found]:
        """A picture with its boxes, and the detections as a COCO file."""
        dials = _read(model, proposals, stage, threshold, show, classes)
        given = self._picture(picture)
        path = keepsake(self.bench, given, dials, "picture")
        return str(path), coco_results(self.bench, given, dials)

    def video(
        self,
        video: str | None,
        model: str,
        proposals: float,
        stage: float,
        threshold: float,
        show: str,
        classes: Any,
        frames_per_second: float,
    ) -> tuple[str, Found]:
        """A video with its boxes."""
        if video is None:
            raise LabError("video is missing; give a file: handle_file('clip.mp4').")
        dials = _read(model, proposals, stage, threshold, show, classes)
        target = fresh_file("detections.mp4")
        clip = open_clip(video, self.bench.limits)
        rate = as_number("frames_per_second", frames_per_second) or 15.0
        steps = annotate(self.bench, clip, dials, rate, target)
        (last,) = deque(steps, maxlen=1)
        return str(target), {"seconds": round(last.done, 3), "frames": last.frames}

    def compare(
        self,
        picture: str | None,
        model: str,
        proposals: float,
        stage: float,
        threshold: float,
        show: str,
        classes: Any,
        other_model: str,
        other_proposals: float,
        other_stage: float,
    ) -> tuple[str, str, Found]:
        """A picture twice: with the dials, and with the model, proposals and stage of other_."""
        one = _read(model, proposals, stage, threshold, show, classes)
        two = replace(
            one,
            model=str(other_model),
            proposals=round(as_number("other_proposals", other_proposals) or 1),
            stage=round(as_number("other_stage", other_stage)),
        )
        given = self._picture(picture)
        paths = [str(keepsake(self.bench, given, side, "picture")) for side in (one, two)]
        first, second = (coco_results(self.bench, given, side) for side in (one, two))
        return paths[0], paths[1], {"one": first, "two": second}

    def explore(
        self,
        picture: str | None,
        model: str,
        proposals: float,
        stage: float,
        threshold: float,
        show: str,
        classes: Any,
    ) -> str:
        """The explorer of a picture as one HTML page that opens without a network."""
        dials = _read(model, proposals, stage, threshold, show, classes)
        return str(keepsake(self.bench, self._picture(picture), dials, "page"))

    def _picture(self, path: str | None) -> Picture:
        if path is None:
            raise LabError("picture is missing; give a file: handle_file('photo.jpg').")
        return read_picture(path, self.bench.limits)


def _numbers(start: Dials) -> list[gr.Number]:
    """Proposals and stage; more than a model has counts as all."""
    return [
        gr.Number(start.proposals, label="proposals"),
        gr.Number(start.stage, label="stage"),
    ]


def _read(
    model: str, proposals: float, stage: float, threshold: float, show: str, classes: Any
) -> Dials:
    """The parameters as dials. Raises LabError for what the page could not have sent."""
    if not isinstance(classes, list | None) or not all(isinstance(n, str) for n in classes or []):
        raise LabError(f"classes must be a list of class names, found {classes!r}.")
    return as_dials(str(model), proposals, stage, threshold, str(show), classes)
