"""What the figures share: the page with its title, the picture, boxes, the width of texts."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke
from matplotlib.text import Annotation, Text
from matplotlib.textpath import TextPath
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.style import Theme

DPI = 160
WIDEST, TALLEST = 0.25, 3.0  # height / width; thinner pictures are stretched to be seen at all
# Weights and amounts, from the page's side of the scale up.
HEAT = "viridis"
BALANCE = LinearSegmentedColormap.from_list("balance", style.BALANCE_COLORS)


class Page(Figure):
    """A figure in one of the two themes, at 160 dpi. width, height: inches."""

    def __init__(self, width: float, height: float, theme: Theme = "light") -> None:
        colors = style.paper(theme)
        if not (math.isfinite(width) and 2 <= width <= 100):
            raise LabError(f"width must be 2 to 100 inches, found {width}.")
        self.paper, self.ink, self.faded, self.line = colors
        super().__init__(figsize=(width, height), facecolor=self.paper, dpi=DPI)

    def _repr_png_(self) -> bytes:
        # A notebook shows pyplot's figures only, unless they can show themselves.
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()

    def place(self, x: float, y: float, w: float, h: float) -> Axes:
        """Axes at (left, bottom, width, height) in inches."""
        width, height = self.get_size_inches()
        return self.add_axes(_Panel(self, (x / width, y / height, w / width, h / height)))

    def text(self, x: float, y: float, s: str, *args: Any, **kwargs: Any) -> Text:
        """Text as it is written, see ``plain``."""
        return super().text(x, y, s, *args, **{"parse_math": False, **kwargs})

    def write_title(self, title: str, detail: str = "", left: float = 0.12) -> None:
        """Title, and a line of detail below it, at the top; cut to the page's width with "…"."""
        width, height = self.get_size_inches()
        for text, size, color, weight, top in (
            (title, 12.0, self.ink, "bold", 0.10),
            (detail, 8.5, self.faded, "normal", 0.36),
        ):
            room = (width - 2 * left) * 72
            self.text(
                left / width, 1 - top / height, shorten(text, size, room), size=size, color=color,
                weight=weight, va="top",
            )  # fmt: skip

    def dress(self, axes: Axes) -> None:
        """Axes in the page's colours, without a box, with a thin grid."""
        axes.set_facecolor(self.paper)
        axes.tick_params(colors=self.faded, labelsize=8.5, length=0)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=self.ink, size=9)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.grid(color=self.line, linewidth=0.6)
        axes.set_axisbelow(True)


class _Panel(Axes):
    """Axes whose texts stand as they are written, see ``plain``."""

    def text(self, x: float, y: float, s: str, *args: Any, **kwargs: Any) -> Text:
        return super().text(x, y, s, *args, **{"parse_math": False, **kwargs})

    def annotate(self, text: str, *args: Any, **kwargs: Any) -> Annotation:
        return super().annotate(text, *args, **{"parse_math": False, **kwargs})


def plain(text: str) -> str:
    """The text for ticks and paths, where matplotlib would take what is between two $ for a
    formula: a class may be called "US$ or A$".
    """
    return text.replace("$", r"\$")


HEAD = 0.6  # inches that title and detail take


def aspect(trace: Trace) -> float:
    """Height / width at which the picture is shown; extreme ones are stretched."""
    return min(max(trace.size[0] / trace.size[1], WIDEST), TALLEST)


def fitted(trace: Trace, width: float, height: float = 8.0) -> tuple[float, float]:
    """(width, height) in inches of the largest picture in this room."""
    width = min(width, height / aspect(trace))
    return width, width * aspect(trace)


def stretched_note(trace: Trace) -> list[str]:
    """One sentence when the picture is not shown in its own proportions, else none."""
    height, width = trace.size
    shown = aspect(trace)
    if math.isclose(shown, height / width):
        return []
    factor = max(shown * width / height, height / width / shown)
    return [f"{width}×{height} px, stretched {factor:.3g}-fold"]


def show_picture(axes: Axes, trace: Trace, fade: float = 0.0) -> None:
    """The picture in its own pixels; without one, an empty frame of its size.

    fade: 0..1, how far it is faded to grey so that lines stand out.
    """
    height, width = trace.size
    if trace.image is None:
        axes.add_patch(Rectangle((0, 0), width, height, color="#7d8590", alpha=0.25, linewidth=0))
    else:
        pixels = trace.image.permute(1, 2, 0).numpy()
        if fade:
            grey = pixels.mean(-1, keepdims=True)
            pixels = (pixels * (1 - fade) + (0.45 * grey + 35) * fade).astype(np.uint8)
        axes.imshow(pixels, extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.set_axis_off()


def rim(line: float, opacity: float = 1.0) -> list[AbstractPathEffect]:
    """The dark edge that keeps a line readable on any picture."""
    return [
        Stroke(linewidth=line + _edge(line), foreground=style.DARK, alpha=style.EDGE * opacity),
        Normal(),
    ]


def _edge(line: float) -> float:
    """How much wider than a line of ``line`` points its dark edge is, points."""
    return min(1.2, 0.6 * line + 0.3)


def outline(
    axes: Axes,
    box: Tensor,
    color: str,
    *,
    opacity: float = 1.0,
    line: float = 1.5,
    dashed: bool = False,
) -> None:
    """A box ``[4]`` xyxy; nothing when it is not a number.  line: width in points."""
    if not box.isfinite().all():
        return
    x1, y1, x2, y2 = box.tolist()
    line = max(style.MIN_LINE * 72 / DPI, line)
    patch = Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=line, alpha=opacity,
        joinstyle="miter", linestyle=(0, style.GROUND_TRUTH_DASH) if dashed else "solid",
    )  # fmt: skip
    patch.set_path_effects(rim(line, opacity))
    axes.add_patch(patch)


def outlines(
    axes: Axes, boxes: Tensor, color: str, opacity: Sequence[float], lines: Sequence[float]
) -> None:
    """Boxes ``[K, 4]`` xyxy as one artist, the last on top: a thousand in the time of a few.

    opacity: of each, 0..1.  lines: widths in points. Boxes that are not numbers are left out.
    """
    good = boxes.isfinite().all(-1).tolist()
    kept = [i for i, fine in enumerate(good) if fine]
    corners = boxes[kept][:, [0, 1, 2, 1, 2, 3, 0, 3]].view(-1, 4, 2).numpy()
    widths = [max(style.MIN_LINE * 72 / DPI, lines[i]) for i in kept]
    rims = [width + _edge(width) for width in widths]
    for name, tone, strength, wide in (
        ("rims", style.DARK, style.EDGE, rims),
        ("boxes", color, 1.0, widths),
    ):
        axes.add_collection(
            PolyCollection(
                list(corners), facecolors="none", linewidths=wide,
                edgecolors=[to_rgba(tone, strength * opacity[i]) for i in kept],
                joinstyle="miter", gid=name,
            ),
            autolim=False,
        )  # fmt: skip


def text_width(text: str, size: float) -> int:
    """Width of a text in points."""
    return round(TextPath((0, 0), plain(text), size=size).get_extents().width + 0.5) if text else 0


def shorten(text: str, size: float, room: float) -> str:
    """The text, cut with an ellipsis to ``room`` points."""
    if not text or text_width(text, size) <= room:
        return text
    while len(text) > 1 and text_width(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip(" ·,") + "…"
