"""The one visual language of figures, app, widget and pages, as data.

A stage has a place on an ordered scale, a class has a colour of its own, a chosen proposal always
has the accent colour, a score is opacity and line width and never colour, and ground truth is
dashed white.
"""

from __future__ import annotations

from typing import Literal

from sparse_rcnn_lab.core.errors import LabError, check_stage

RGB = tuple[int, int, int]
Theme = Literal["light", "dark"]

# 0 (grey) are the learned proposals; then viridis without its darkest fifth, which would vanish on
# photographs. Lightness rises with the stage: the order survives grey print and colour blindness.
PROPOSAL_COLOR = "#9aa0a6"
# Their boxes on an image are lighter, with the dark edge that all lines have: one of the two is
# visible on any image, while a middle grey would be lost on grey.
PROPOSAL_LINE = "#c4c9d0"
STAGE_COLORS = ("#5b52a3", "#3b77b5", "#2699a6", "#35b779", "#8fd744", "#fde725")

# Okabe and Ito's colours, in an order that keeps neighbours distinct; they repeat after seven,
# where the label, which is always written, distinguishes the classes.
CLASS_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#0072b2", "#cc79a7")

ACCENT = "#e800ff"  # the chosen proposal, everywhere at once
DARK = "#14171c"  # edge under every line, dark text
LIGHT = "#ffffff"
EDGE = 0.7  # opacity of the dark edge, relative to that of its line

# Colours of figures: page, text, faded text, thin lines.
_PAPER = {
    "light": (LIGHT, "#1f2328", "#59636e", "#d0d7de"),
    "dark": ("#0d1117", "#f0f6fc", "#9198a1", "#3d444d"),
}
# For -1, 0, 1; blue and orange are safe for the colour-blind.
BALANCE_COLORS = ("#2166ac", "#f7f7f7", "#b35806")

# Ground truth: (length of a dash, of a gap) in line widths.
GROUND_TRUTH_COLOR = LIGHT
GROUND_TRUTH_DASH = (4.0, 3.0)

MIN_LINE = 1.5  # pixels on screen
FAINTEST = 0.12  # opacity of a score of 0


def paper(theme: str) -> tuple[str, str, str, str]:
    """The colours of page, text, faded text and thin lines. Raises LabError for another theme."""
    if theme not in _PAPER:
        raise LabError(f'theme must be "light" or "dark", found {theme!r}.')
    return _PAPER[theme]


def stage_color(stage: int, num_stages: int = 6) -> str:
    """The colour of ``stage`` as ``#rrggbb``; 0 is the learned proposals, ``num_stages`` the last.

    Models with another number of stages take their colours at equal steps of the same scale.
    Raises LabError when the stage does not exist.
    """
    if check_stage(stage, num_stages, 0) == 0:
        return PROPOSAL_COLOR
    last = len(STAGE_COLORS) - 1
    place = last if num_stages == 1 else last * (stage - 1) / (num_stages - 1)
    low = min(int(place), last - 1)
    return mixed(STAGE_COLORS[low], STAGE_COLORS[low + 1], place - low)


def line_color(stage: int, num_stages: int = 6) -> str:
    """The colour of the boxes of ``stage`` on an image: :func:`stage_color`, but a lighter grey for
    the learned proposals. Raises LabError when the stage does not exist.
    """
    return PROPOSAL_LINE if stage == 0 else stage_color(stage, num_stages)


def mixed(first: str, second: str, share: float) -> str:
    """The colour between two, ``share`` 0..1 of the way from the first to the second."""
    return "#" + "".join(
        f"{round(a + (b - a) * share):02x}" for a, b in zip(rgb(first), rgb(second), strict=True)
    )


def class_color(label: int) -> str:
    """The colour of the class with index ``label``, the same in every view."""
    return CLASS_COLORS[label % len(CLASS_COLORS)]


def score_opacity(score: float, faintest: float = FAINTEST) -> float:
    """The opacity 0..1 of a box with ``score`` 0..1; even a score of 0 is faintly visible."""
    return faintest + (1 - faintest) * min(max(score, 0.0), 1.0)


def learned_opacity(count: int) -> float:
    """The opacity 0..1 of ``count`` learned proposals, which have no score yet and all look the
    same: lower for many, which overlap, but never so low that none is visible.
    """
    return 0.9 * min(1.0, max(0.5, (40 / max(count, 1)) ** 0.25))


def text_color(background: str) -> str:
    """The readable text colour on ``background``, dark or light, by WCAG contrast."""
    shade = luminance(background) + 0.05
    on_light = shade / (luminance(DARK) + 0.05)
    on_dark = (luminance(LIGHT) + 0.05) / shade
    return DARK if on_light >= on_dark else LIGHT


def luminance(color: str) -> float:
    """The relative luminance 0..1 (WCAG 2) of ``#rrggbb``."""
    parts = (value / 255 for value in rgb(color))
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rgb(color: str) -> RGB:
    """``#rrggbb`` -> (red, green, blue), 0..255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def score_text(score: float) -> str:
    """A score as in labels: ``.91``, or ``1.00`` when it rounds to 1."""
    return f"{score:.2f}".removeprefix("0")
