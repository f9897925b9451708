"""What the plotly figures share: the page, the picture below the lines, values that are JSON."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.draw import as_image, display_size
from sparse_rcnn_lab.views.embed import data_uri, encoded
from sparse_rcnn_lab.views.style import Theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BALANCE = [[0.5 * place, color] for place, color in enumerate(style.BALANCE_COLORS)]
_LONG_SIDE = 1200  # pixels of the embedded picture
_WIDEST, _TALLEST = 0.25, 2.0  # height / width; thinner pictures are stretched to be seen at all


def go() -> Any:
    """``plotly.graph_objects``. Raises LabError, saying how to install it, where there is none."""
    try:
        import plotly.graph_objects
    except ImportError:
        raise LabError(
            'Plotly is not installed. Install it with pip install "sparse-rcnn-lab[notebooks]", or '
            "use sparse_rcnn_lab.views.figures, which needs only matplotlib."
        ) from None
    return plotly.graph_objects


def page(title: str, detail: str, theme: Theme, square: bool = False) -> Figure:
    """An empty figure in one of the two themes, with a title and a line of detail."""
    paper, ink, _, line = style.paper(theme)
    figure = go().Figure()
    small = f"<br><sup>{detail}</sup>" if detail else ""
    figure.update_layout(
        title={"text": f"<b>{title}</b>{small}", "x": 0.02, "font": {"size": 18}},
        paper_bgcolor=paper, plot_bgcolor=paper, font={"color": ink}, height=620 if square else 460,
        margin={"l": 60, "r": 20, "t": 80, "b": 55}, hoverlabel={"font": {"size": 13}},
    )  # fmt: skip
    axis = {"gridcolor": line, "zeroline": False, "linecolor": line}
    figure.update_xaxes(**axis, showgrid=not square)
    figure.update_yaxes(**axis, showgrid=not square)
    return figure


def page_of_picture(trace: Trace, title: str, detail: str, theme: Theme, below: int = 10) -> Figure:
    """A page whose axes are the picture's pixels, with the picture, where the trace has kept it.

    below: pixels kept free under the picture.
    """
    height, width = trace.size
    shown = min(max(height / width, _WIDEST), _TALLEST)
    figure = page(title, detail, theme)
    if trace.image is not None:
        figure.add_layout_image(
            source=_source(trace), x=0, y=0, sizex=width, sizey=height, xref="x", yref="y",
            sizing="stretch", layer="below",
        )  # fmt: skip
    own = math.isclose(shown, height / width)
    figure.update_xaxes(range=[0, width], showgrid=False, showticklabels=False, constrain="domain")
    figure.update_yaxes(
        range=[height, 0], showgrid=False, showticklabels=False, constrain="domain",
        scaleanchor="x" if own else None,
    )  # fmt: skip
    across = 700 if shown <= 1 else 700 / shown
    return figure.update_layout(
        height=round(across * shown) + 90 + below, margin={"l": 10, "r": 10, "t": 80, "b": below},
        legend={"tracegroupgap": 0},  # a line and its edge are a group, and no gap parts groups
    )  # fmt: skip


def _source(trace: Trace) -> str:
    assert trace.image is not None
    picture = as_image(trace.image)
    picture = picture.resize(display_size(*picture.size, min_side=480, max_side=_LONG_SIDE))
    return data_uri(encoded(picture, quality=88))


def box_lines(boxes: Tensor) -> tuple[list[float | None], list[float | None]]:
    """x and y of one line around all boxes ``[K, 4]``, with gaps; without those not finite."""
    x: list[Sequence[float | None]] = []
    y: list[Sequence[float | None]] = []
    for x1, y1, x2, y2 in boxes[boxes.isfinite().all(-1)].tolist():
        x.append([x1, x2, x2, x1, x1])
        y.append([y1, y1, y2, y2, y1])
    return gaps(x), gaps(y)


def gaps(lines: Iterable[Sequence[Any]]) -> list[Any]:
    """Several lines as one, with None between them."""
    joined: list[Any] = []
    for line in lines:
        joined += [*([None] if joined else []), *line]
    return joined


def numbers(values: Tensor) -> list[float | None]:
    """``[K]`` as JSON can hold it: what is not finite becomes None."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def plain(text: str) -> str:
    """Text that plotly shows as it is, whatever a class is called."""
    return html.escape(text, quote=False).replace("$", "&#36;")
