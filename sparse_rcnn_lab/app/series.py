"""Pictures in a row: the states of one run, and runs with fewer and fewer proposals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape

from PIL import Image

from sparse_rcnn_lab.app.bench import SHOWN, Bench, Dials, View
from sparse_rcnn_lab.app.frames import as_jpeg
from sparse_rcnn_lab.app.pictures import Picture
from sparse_rcnn_lab.views.draw import data_uri

BUDGETS = (10, 50)
_WIDTH = 480  # of a picture in a row, pixels


@dataclass(frozen=True)
class Panel:
    """One picture of a row. title: what it is.  text: what came of it."""

    image: Image.Image
    title: str
    text: str


def states(bench: Bench, picture: Picture, dials: Dials) -> Iterator[Panel]:
    """All states of one run, the learned proposals first; the last one with its detections."""
    last = bench.models[dials.model].num_stages
    for stage in range(last + 1):
        view = bench.look(picture, replace(dials, stage=stage, show=SHOWN[1]))
        title = f"stage {stage}" if stage else "learned proposals"
        text = f"{view.proposals}, no scores yet" if view.detections is None else _found(view)
        yield Panel(view.image, title, text)
    view = bench.look(picture, replace(dials, stage=last, show=SHOWN[0]))
    yield Panel(view.image, "detections", f"score at least {dials.threshold:.2f}")


def budgets(bench: Bench, picture: Picture, dials: Dials) -> Iterator[Panel]:
    """The detections of 10, of 50 and of all proposals, with time and number."""
    most = bench.models[dials.model].num_proposals
    for number in [*(n for n in BUDGETS if n < most), most]:
        view = bench.look(picture, replace(dials, proposals=number))
        title = f"all {number} proposals" if number == most else f"{number} proposals"
        text = f"{_found(view)}, {view.milliseconds:.0f} ms"
        yield Panel(view.image, title, text)


def as_html(panels: Iterator[Panel], least: int) -> str:
    """The row as HTML with its pictures inside, each at least so many pixels wide."""
    figures = "".join(
        f'<figure><img src="{data_address(panel.image)}" alt="{escape(panel.title)}: '
        f'{escape(panel.text)}"><figcaption><b>{escape(panel.title)}</b> '
        f"<span>{escape(panel.text)}</span></figcaption></figure>"
        for panel in panels
    )
    return f'<div class="lab-series" style="--least: {least}px">{figures}</div>'


def data_address(image: Image.Image) -> str:
    """The picture, made small, as an address that holds it."""
    small = image.copy()
    small.thumbnail((_WIDTH, _WIDTH), Image.Resampling.BICUBIC)
    return data_uri(as_jpeg(small))


def _found(view: View) -> str:
    count = 0 if view.detections is None else len(view.detections)
    return f"{count} detection{'s' * (count != 1)}"
