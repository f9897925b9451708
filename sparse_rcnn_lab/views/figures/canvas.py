"""The parts that figures share: page and title, image, boxes, labels, the key of stages."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke
from matplotlib.text import Annotation, Text
from matplotlib.textpath import TextPath
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.fonts import OURS, font_for
from sparse_rcnn_lab.views.style import Theme
from sparse_rcnn_lab.views.text_layout import Box, place_labels, spread

DPI = 160
HEAD = 0.6  # inches for title and detail
WIDEST, TALLEST = 0.25, 3.0  # height / width; thinner images are stretched to be visible
# Colour scales of weights and amounts, beginning near the page's colour.
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

    def draw(self, renderer: Any) -> None:
        """Draws everything, names in other scripts with a font that has them."""
        for text in self.findobj(Text):
            if font := font_for(text.get_text()):
                text.set_fontfamily([OURS, font[0]])
        with _one_word_on_letters():
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        # A notebook shows only pyplot's figures, unless a figure can show itself.
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()

    def place(self, x: float, y: float, w: float, h: float) -> Axes:
        """Axes at (left, bottom, width, height) in inches. Raises LabError if there is no room."""
        width, height = self.get_size_inches()
        if min(w, h) < 0.01:
            raise LabError(f"At {width:g} inches this figure has no room for its parts; give more.")
        return self.add_axes(_Panel(self, (x / width, y / height, w / width, h / height)))

    def text(self, x: float, y: float, s: str, *args: Any, **kwargs: Any) -> Text:
        """Text exactly as given, see ``plain``."""
        return super().text(x, y, s, *args, **{"parse_math": False, **kwargs})

    def write_title(self, title: str, *details: str) -> None:
        """Writes title and details in two lines at the top, cut to the page's width with "…"."""
        left = 0.12  # inches
        width, height = self.get_size_inches()
        for text, size, color, weight, top in (
            (title, 12.0, self.ink, "bold", 0.10),
            (" · ".join(filter(None, details)), 8.5, self.faded, "normal", 0.36),
        ):
            room = (width - 2 * left) * 72
            self.text(
                left / width, 1 - top / height, shorten(text, size, room), size=size, color=color,
                weight=weight, va="top",
            )  # fmt: skip

    def dress(self, axes: Axes) -> None:
        """Gives axes the page's colours, no box and a thin grid."""
        axes.set_facecolor(self.paper)
        axes.tick_params(colors=self.faded, labelsize=8.5, length=0)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=self.ink, size=9)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.grid(color=self.line, linewidth=0.6)
        axes.set_axisbelow(True)

    def color_bar(
        self, image: ScalarMappable, x: float, y: float, h: float, label: str = "", size: float = 8
    ) -> None:
        """Draws the colour scale of an image, from (x, y) inches upwards."""
        axes = self.place(x, y, 0.14, h)
        scale = self.colorbar(image, cax=axes)
        scale.outline.set_visible(False)
        axes.tick_params(colors=self.faded, labelsize=8, length=0)
        scale.set_label(label, color=self.ink, size=size)


class _Panel(Axes):
    """Axes that show texts exactly as given, see ``plain``."""

    def text(self, x: float, y: float, s: str, *args: Any, **kwargs: Any) -> Text:
        return super().text(x, y, s, *args, **{"parse_math": False, **kwargs})

    def annotate(self, text: str, *args: Any, **kwargs: Any) -> Annotation:
        return super().annotate(text, *args, **{"parse_math": False, **kwargs})


def plain(text: str) -> str:
    """The text for ticks and paths, where matplotlib would take text between two $ for a formula,
    as in a class called "US$ or A$".
    """
    return text.replace("$", r"\$")


@contextmanager
def _one_word_on_letters() -> Iterator[None]:
    """Suppresses matplotlib's warnings for single characters; ``font_for`` warns once for all."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")
        yield


def text_width(text: str, size: float) -> int:
    """The width of a text in points."""
    if not text:
        return 0
    font = font_for(text)
    with _one_word_on_letters():
        path = TextPath(
            (0, 0), plain(text), size=size,
            prop=FontProperties(family=[OURS, font[0]] if font else None),
        )  # fmt: skip
        return round(path.get_extents().width + 0.5)


def shorten(text: str, size: float, room: float) -> str:
    """The text, cut with an ellipsis to ``room`` points."""
    if not text or text_width(text, size) <= room:
        return text
    while len(text) > 1 and text_width(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip(" ·,") + "…"


def aspect(trace: Trace) -> float:
    """The height / width at which the image is shown; extreme ones are stretched."""
    return min(max(trace.size[0] / trace.size[1], WIDEST), TALLEST)


def fitted(trace: Trace, width: float, height: float = 8.0) -> tuple[float, float]:
    """(width, height) in inches of the largest image in this room."""
    width = min(width, height / aspect(trace))
    return width, width * aspect(trace)


def stretched_note(trace: Trace) -> str:
    """A note when the image is not shown in its own proportions, else ""."""
    height, width = trace.size
    shown = aspect(trace)
    if math.isclose(shown, height / width):
        return ""
    factor = max(shown * width / height, height / width / shown)
    return f"{width}×{height} px, stretched {factor:.3g}-fold"


def show_image(axes: Axes, trace: Trace, fade: float = 0.0) -> None:
    """Shows the image in its own pixels or, without one, an empty frame of its size.

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
    """The dark edge that keeps a line readable on any image."""
    return [
        Stroke(linewidth=line + _edge(line), foreground=style.DARK, alpha=style.EDGE * opacity),
        Normal(),
    ]


def _edge(line: float) -> float:
    """How much wider than a line of ``line`` points its dark edge is, in points."""
    return min(1.2, 0.6 * line + 0.3)


def dot(axes: Axes, point: Tensor, color: str, size: float = 4, zorder: float = 2) -> None:
    """Draws a dot with a dark edge. point: ``[2]``.  size: points."""
    axes.plot(
        *point.tolist(), "o", color=color, markersize=size, markeredgecolor=style.DARK,
        markeredgewidth=0.6, zorder=zorder,
    )  # fmt: skip


def outline(
    axes: Axes,
    box: Tensor,
    color: str,
    *,
    opacity: float = 1.0,
    line: float = 1.5,
    dashed: bool = False,
) -> None:
    """Draws a box ``[4]`` xyxy, unless it is not finite.  line: width in points."""
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
    """Draws boxes ``[K, 4]`` xyxy as one artist, which is fast, with the last on top.

    opacity: that of each box, 0..1.  lines: widths in points.  Boxes that are not finite are left
    out.
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


def write_labels(
    axes: Axes,
    boxes: Sequence[Sequence[float]],
    texts: Sequence[str],
    colors: Sequence[str],
    size: float,
    room: float = 0.0,
) -> None:
    """Writes a label beside each box, without overlaps, inside the axes, whose limits must be set.

    boxes: xyxy in the axes' units; those that are not finite are left out.  room: points kept free
    around each.  The layout is in points, the unit of text, since an image may be shown stretched.
    """
    (x0, x1), (y1, y0) = axes.get_xlim(), axes.get_ylim()  # y0 is at the top
    page, place = axes.get_figure(root=True), axes.get_position()
    assert page is not None
    page_width, page_height = page.get_size_inches() * 72
    width, height = place.width * page_width, place.height * page_height
    right, down = width / (x1 - x0), height / (y1 - y0)
    kept = [i for i, box in enumerate(boxes) if all(map(math.isfinite, box))]
    high = round(size * 1.5)
    sizes = [(text_width(texts[i], size) + 6, high) for i in kept]
    scaled: list[Box] = []
    for a, b, c, d in (boxes[i] for i in kept):
        left, top = (a - x0) * right - room, (b - y0) * down - room
        scaled.append((left, top, (c - x0) * right + room, (d - y0) * down + room))
    places = place_labels(scaled, sizes, int(width + 1e-6), int(height + 1e-6))
    for i, (w, h), spot in zip(kept, sizes, places, strict=True):
        if spot is None:
            continue
        x, y, wide, tall = x0 + spot[0] / right, y0 + spot[1] / down, w / right, h / down
        axes.add_patch(Rectangle((x, y), wide, tall, color=colors[i], linewidth=0, zorder=5))
        axes.text(
            x + wide / 2, y + tall / 2, texts[i], size=size, zorder=6,
            color=style.text_color(colors[i]), ha="center", va="center_baseline",
        ).set_gid("label")  # fmt: skip


def label_ends(
    page: Page,
    axes: Axes,
    ends: Sequence[float],
    texts: Sequence[str],
    *,
    starts: Sequence[float] | None = None,
    size: float | None = None,
) -> None:
    """Names lines at their right ends, or points, in a column that keeps the names apart.

    Names that are too long for the page are cut.
    ends: where each line ends, in data units.  starts: x of the points, default: the right edge.
    size: font size, by default chosen by the number of names. The axes' limits must be set.
    """
    (left, edge), (low, high) = axes.get_xlim(), axes.get_ylim()
    size = size or (8.5 if len(ends) <= 14 else 6.5)
    place, (width, height) = axes.get_position(), page.get_size_inches() * 72
    gap = size * 1.35 * (high - low) / (place.height * height)
    room = (1 - place.x1 - 0.05 * place.width) * width - 4  # points
    kept = [i for i, end in enumerate(ends) if math.isfinite(end)]
    for i, y in zip(kept, spread([ends[i] for i in kept], gap, low, high), strict=True):
        x, shrink = (edge, 1) if starts is None else (starts[i], 3)
        axes.annotate(
            shorten(texts[i], size, room), (x, ends[i]), (edge + 0.05 * (edge - left), y),
            size=size, color=page.ink, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": page.faded, "linewidth": 0.6, "shrinkA": 0,
                        "shrinkB": shrink, "relpos": (0, 0.5)},
        ).set_gid("label")  # fmt: skip


def stage_key(page: Page, num_stages: int, x: float, y: float) -> None:
    """Draws the colours of the states with their numbers, from (x, y) inches to the right."""
    axes = page.place(x, y, 3.4, 0.2)
    axes.set(xlim=(0, 3.4), ylim=(0, 0.2))
    axes.set_axis_off()
    step = max(1, math.ceil((num_stages + 1) / 12))
    shown = sorted({*range(0, num_stages + 1, step), num_stages})
    axes.text(0, 0.1, "stage", size=8.5, color=page.faded, va="center")
    for place, stage in enumerate(shown):
        left = 0.42 + 0.22 * place
        color = style.stage_color(stage, num_stages)
        axes.add_patch(Rectangle((left, 0.0), 0.2, 0.2, color=color, linewidth=0))
        axes.text(
            left + 0.1, 0.095, str(stage), size=7.5, color=style.text_color(color),
            ha="center", va="center_baseline",
        )  # fmt: skip
    end = 0.42 + 0.22 * len(shown)
    axes.text(end + 0.05, 0.1, "(0: learned)", size=8, color=page.faded, va="center")
