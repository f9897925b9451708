"""The published COCO models in a lesson: one of them where it can be had, else a shipped one."""

from __future__ import annotations

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.lessons.setting import is_fast
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.models.recipes import RECIPES
from sparse_rcnn_lab.models.releases import RELEASES

_MEANING = {
    "name": "what srl.load takes",
    "backbone": "ResNet with this many layers",
    "proposals": "N",
    "epochs": "passes over COCO's 118,000 training pictures",
    "AP": "COCO val2017, of 100, as published with the weights",
    "MB": "to download, once",
    "here": "whether it is on this machine already",
}


def table_of_models() -> Table:
    """The five published models, and which of them are on this machine; asks no network."""
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
    """The published model, downloaded at first use; where that fails, ``instead``, saying so.

    Returns the detector and whether it is the published one. In fast mode nothing is downloaded.
    Raises LabError for a name that is not a published model.
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
