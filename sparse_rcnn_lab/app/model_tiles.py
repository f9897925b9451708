"""The models of the page as tiles to choose from, with what each finds and a thumbnail."""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path

from PIL import Image

from sparse_rcnn_lab.app.user_inputs import EXAMPLES
from sparse_rcnn_lab.app.viewer import ModelList, short_name
from sparse_rcnn_lab.models.load import shipped_models
from sparse_rcnn_lab.models.releases import RELEASES
from sparse_rcnn_lab.views.draw import data_uri, encoded

_SIDE = 96  # side of a thumbnail, pixels
_FIRST = "r50_3x_100"  # the published model that is shown; the others are variants, folded away
# Part of a model's name -> its title, what it finds, its thumbnail.
_FACES = {
    "everyday": ("Everyday things", "20 kinds: people, animals, vehicles, furniture", "everyday_1"),
    "shapes": ("Drawn shapes", "circles, squares, triangles, stars and more", "shapes_1"),
    "cards": ("Playing cards", "nine to ace", "cards_1"),
    "cells": ("Blood cells", "red cells, white cells, platelets", "cells_2"),
}
_COCO = ("COCO's 80 kinds", "people, animals, vehicles, food, household things", "everyday_3")


def face(name: str) -> tuple[str, str, str]:
    """A model's title, what it finds, and its thumbnail's name ("" without one)."""
    if name in RELEASES:
        return _COCO
    known = [look for part, look in _FACES.items() if part in name]
    ships = name in shipped_models()
    return known[0] if known and ships else (short_name(name), "a model of yours", "")


def head(models: ModelList) -> str:
    """The button with the tile of the present model."""
    title, _, picture = face(models.first)
    return (
        '<button id="lab-face" type="button" aria-haspopup="dialog" title="Choose another model">'
        f'<img id="lab-face-image" src="{thumbnail(picture)}" alt=""><span><small>Model</small>'
        f'<b id="lab-face-name">{escape(title)}</b></span><span aria-hidden="true">▾</span>'
        "</button>"
    )


def dialog(models: ModelList) -> str:
    """All tiles: the models at hand, one of the published ones, and the rest behind "More"."""
    here = [name for name in models.names if name not in RELEASES]
    shown = [*here, *(name for name in models.names if name == _FIRST)]
    more = [name for name in models.names if name in RELEASES and name != _FIRST]
    tiles = "".join(_tile(name, name == models.first) for name in shown)
    rest = "".join(_tile(name, name == models.first, name) for name in more)
    folded = f"<details><summary>More: COCO's other recipes</summary><div>{rest}</div></details>"
    return (
        '<dialog id="lab-models" aria-label="Choose a model"><header><h2>Choose a model</h2>'
        '<button id="lab-models-close" type="button" aria-label="Close">×</button></header>'
        f"<div>{tiles}</div>{folded if more else ''}<p>A model of your own: start the app with "
        "<code>--checkpoint</code> and its run folder.</p></dialog>"
    )


def _tile(name: str, pressed: bool, title: str = "") -> str:
    called, finds, picture = face(name)
    if name in RELEASES:
        release = RELEASES[name]
        there = release.cached.is_file()
        finds += " · downloaded" if there else f" · downloads {release.megabytes} MB, once"
    return (
        f'<button type="button" data-model="{escape(name)}" aria-pressed="{str(pressed).lower()}">'
        f'<img src="{thumbnail(picture)}" alt=""><span><b>{escape(title or called)}</b>'
        f"<small>{escape(finds)}</small></span></button>"
    )


@cache
def thumbnail(name: str) -> str:
    """A square piece of an example image as a data URI; a grey square for ""."""
    if not name:
        return data_uri(encoded(Image.new("RGB", (8, 8), "#8a94a6"), "PNG"), "png")
    return square(next(EXAMPLES.glob(f"{name}.*")))


def square(source: Path | str | Image.Image) -> str:
    """The middle of an image as a small square, as a data URI."""
    if not isinstance(source, Image.Image):
        return _square_of(str(source))
    side = min(source.size)
    left, top = (source.width - side) // 2, (source.height - side) // 2
    box = (left, top, left + side, top + side)
    return data_uri(encoded(source.convert("RGB").resize((_SIDE, _SIDE), box=box), quality=80))


@cache
def _square_of(path: str) -> str:
    with Image.open(path) as image:
        return square(image.convert("RGB"))
