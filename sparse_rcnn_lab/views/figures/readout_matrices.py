"""The lens: AP of each stage's features under each stage's heads."""

from __future__ import annotations

import numpy as np

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, HEAT, Page
from sparse_rcnn_lab.views.figures.series import need_rows
from sparse_rcnn_lab.views.style import Theme

_WORDS = {
    "both": "class and place read with them",
    "class": "class read with them, own place",
    "place": "place read with them, own class",
}


def lens_matrices(
    table: Table,
    *,
    metric: str = "AP",
    width: float = 9.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Three square tables: rows are the stage whose features are read, columns whose heads read.

    table: of :func:`sparse_rcnn_lab.analysis.lens`.  metric: "AP" or "AP50".
    """
    need_rows(table, "lens")
    readings = list(dict.fromkeys(table["reading"]))
    stages = sorted(set(table["features"]))
    side = (width - 0.55 - 0.25 - 0.3 * (len(readings) - 1)) / len(readings)
    page = Page(width, side + HEAD + 0.85, theme)
    page.write_title(
        title or "Features of one stage under the heads of another", f"{table.title} · {metric}"
    )
    most = max([0.01, *(value or 0.0 for value in table[metric])])
    for place, reading in enumerate(readings):
        axes = page.place(0.55 + place * (side + 0.3), 0.52, side, side)
        page.dress(axes)
        axes.grid(visible=False)
        grid = np.full((len(stages), len(stages)), np.nan)
        for row in table.where(reading=reading).rows():
            value = row[metric]
            at = stages.index(row["features"]), stages.index(row["heads"])
            grid[at] = np.nan if value is None else value
        image = axes.imshow(grid, cmap=HEAT, vmin=0, vmax=most)
        for (i, j), value in np.ndenumerate(grid):
            color = image.cmap(image.norm(value))
            shade = "#" + "".join(f"{round(255 * part):02x}" for part in color[:3])
            text = "–" if np.isnan(value) else style.score_text(float(value))
            axes.text(j, i, text, size=8, color=style.text_color(shade), ha="center", va="center")
        axes.set_xticks(range(len(stages)), stages)
        axes.set_yticks(range(len(stages)), stages)
        axes.set(xlabel="heads of stage", ylabel="" if place else "features of stage")
        axes.set_title(_WORDS[reading], size=8.5, color=page.ink, loc="left", pad=4)
    return page
