"""What a notebook needs first: a fast mode, example images, a working folder, models."""

from __future__ import annotations

import copy
import inspect
import os
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.config import ProposalInit
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import initial_boxes
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.models.recipes import RECIPES
from sparse_rcnn_lab.models.releases import RELEASES, cache_folder
from sparse_rcnn_lab.views.figures.canvas import Page
from sparse_rcnn_lab.views.figures.panels import detection_panels

FAST_VARIABLE = "SPARSE_RCNN_LAB_FAST"
EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
DATA = Path(__file__).parent / "data"
_MARK = ".made-by-sparse-rcnn-lab"
_MEANING = {
    "name": "the name for srl.load",
    "backbone": "ResNet with this many layers",
    "proposals": "N",
    "epochs": "passes over COCO's 118,000 training images",
    "AP": "COCO val2017, of 100, as published with the weights",
    "MB": "size of the single download",
    "here": "whether it is on this machine already",
}

T = TypeVar("T")
BoxStart = Literal["learned"] | ProposalInit
FeatureStart = Literal["learned", "shuffled", "mean", "random"]


def is_fast() -> bool:
    """Whether SPARSE_RCNN_LAB_FAST is set, with which every lesson runs in seconds on toy amounts.

    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, {FAST_VARIABLE: "1"}):
    ...     print(is_fast(), pick(full=600, fast=3))
    True 3
    """
    return os.environ.get(FAST_VARIABLE, "") not in ("", "0")


def pick(full: T, fast: T) -> T:
    """``full``, or ``fast`` in fast mode (:func:`is_fast`), such as a number of steps or images."""
    return fast if is_fast() else full


def example(name: str) -> Path:
    """One of the images that ship with the package. Raises LabError with the list of them.

    >>> example("cards_1.jpg").name
    'cards_1.jpg'
    """
    there = {p.name: p for folder in (EXAMPLES, DATA) for p in sorted(folder.iterdir())}
    images = {n: p for n, p in there.items() if p.suffix in (".jpg", ".png")}
    if name not in images:
        raise LabError(f'There is no example "{name}". There are: {", ".join(sorted(images))}.')
    return images[name]


def copy_of_boards(name: str) -> Path:
    """Copies 50 labelled photographs of circuit boards into a :func:`workspace` of their own.

    ``train/`` and ``val/`` hold each photograph (.jpg) and its labels, as labelling tools write
    them (Pascal VOC, .xml). Returns the folder.

    >>> sorted(path.name for path in copy_of_boards("doctest-boards").iterdir())[1:]
    ['train', 'val']
    """
    folder = workspace(name)
    for part in ("train", "val"):
        shutil.copytree(DATA / "boards" / part, folder / part)
    return folder


def workspace(name: str) -> Path:
    """An empty folder for what a lesson writes, the same wherever the lesson is run.

    It is in the cache folder (``SPARSE_RCNN_LAB_CACHE`` names another one); what the lesson left
    there the last time is removed. Raises LabError where it cannot be created, or holds files that
    no lesson made.

    >>> workspace("doctest").name
    'doctest'
    """
    folder = cache_folder() / "lessons" / name
    if folder.exists():
        if not (folder / _MARK).exists() and any(folder.iterdir()):
            raise LabError(f'"{folder}" holds files that no lesson made. Move them away.')
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise LabError(f'Could not make the folder "{folder}" ({error.strerror}).') from error
    return folder


def table_of_models() -> Table:
    """The five published models, and which of them are on this machine; makes no network request.

    >>> len(table_of_models()["name"])
    5
    """
    rows = [
        {
            "name": release.name,
            "backbone": RECIPES[release.name].model.backbone,
            "proposals": RECIPES[release.name].model.num_proposals,
            "epochs": RECIPES[release.name].train.epochs,
            "AP": RECIPES[release.name].published_ap,
            "MB": release.megabytes,
            "here": release.cached.is_file(),
        }
        for release in RELEASES.values()
    ]
    return Table.of("Published Sparse R-CNN models", rows, _MEANING)


def load_published(name: str, instead: str = "small-cards") -> tuple[Detector, bool]:
    """The published model, downloaded at first use; if that fails, ``instead``, with a message.

    Returns the detector and whether it is the published one. In fast mode nothing is downloaded.
    Raises LabError for a name that is not a published model.

    >>> load_published("small-cards")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    LabError: "small-cards" is not published. Choose one of ...
    """
    if name not in RELEASES:
        raise LabError(f'"{name}" is not published. Choose one of {", ".join(RELEASES)}.')
    if is_fast() and not RELEASES[name].cached.is_file():
        print(f'Fast mode: nothing is downloaded; the shipped "{instead}" stands in for {name}.')
        return load(instead), False
    try:
        return load(name), True
    except LabError as error:
        print(f'{error}\n\nUntil then the shipped "{instead}" stands in for {name}.')
        return load(instead), False


def samples(data: DetectionData, count: int = 8, *, columns: int = 4) -> Page:
    """The first images of a data set with their labels. Raises LabError when it is empty.

    >>> import sparse_rcnn_lab as srl
    >>> len(samples(srl.Shapes(2, size=64)).axes)
    2
    """
    shown = [data[i] for i in range(min(count, len(data)))]
    if not shown:
        raise LabError("The data set has no images to show.")
    found = [
        Detections(
            boxes=sample.boxes,
            scores=torch.ones(len(sample.boxes)),
            labels=sample.labels,
            proposals=torch.arange(len(sample.boxes)),
            size=(sample.image.shape[1], sample.image.shape[2]),
            class_names=tuple(data.class_names),
        )
        for sample in shown
    ]
    return detection_panels(
        found,
        [sample.image for sample in shown],
        [sample.name for sample in shown],
        columns=columns,
        title="Images with their labels",
        word="labelled",
        scores=False,
    )


@torch.no_grad()
def with_start(
    detector: Detector,
    boxes: BoxStart = "learned",
    features: FeatureStart = "learned",
    seed: int = 0,
) -> Detector:
    """A copy of a detector whose proposals start differently; all other weights are the same.

    boxes: "learned", or an initialisation for training: "image" (each is the whole image), "grid",
    "random".  features: "learned"; "shuffled" among the proposals; "mean", the same for all;
    "random", drawn from N(0, 1) as before training.  seed: for random choices.
    Raises LabError for any other value.

    >>> with_start(load("nano-shapes"), boxes="image").model.proposals.boxes[0].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """
    if boxes not in ("learned", "image", "grid", "random"):
        raise LabError(f"boxes must be learned, image, grid or random, found {boxes!r}.")
    if features not in ("learned", "shuffled", "mean", "random"):
        raise LabError(f"features must be learned, shuffled, mean or random, found {features!r}.")
    model = copy.deepcopy(detector.model)
    proposals = model.proposals
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if boxes != "learned":
            proposals.boxes.copy_(initial_boxes(len(proposals), boxes))
        if features == "shuffled":
            proposals.features.copy_(proposals.features[torch.randperm(len(proposals))])
        elif features == "mean":
            proposals.features.copy_(proposals.features.mean(0).expand_as(proposals.features))
        elif features == "random":
            proposals.features.copy_(torch.randn(proposals.features.shape))
    runtime = detector.runtime.for_model(model)
    return Detector(model, detector.class_names, detector.name, detector.info, runtime)


def show_source(module: str, *names: str) -> Any:
    """The source of a module, or of some of its functions and classes, to read in a notebook.

    It has syntax highlighting. Raises LabError where there is no such module or name.

    >>> "def iou" in show_source("sparse_rcnn_lab.core.boxes").data
    True
    >>> show_source("sparse_rcnn_lab.core.boxes", "iou").data.count("def ")
    1
    """
    from IPython.display import Code

    try:
        found = find_spec(module)
    except ImportError:
        found = None
    if found is None or not found.origin:
        raise LabError(f'There is no module "{module}" to show.')
    if not names:
        return Code(filename=found.origin, language="python")
    there = vars(import_module(module))
    if missing := [name for name in names if name not in there]:
        raise LabError(f'There is no "{missing[0]}" in {module} to show.')
    return Code("\n\n".join(inspect.getsource(there[name]) for name in names), language="python")
