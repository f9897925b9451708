"""Many images with their labelled boxes on one page, for an overview of a data set."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from sparse_rcnn_lab.core.inputs import Sample
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.draw import Mark, as_image, cut, draw_marks, label_font

_TILE = (420, 315)
_GAP, _BAND, _TEXT = 16, 50, 15


def contact_sheet(
    samples: Sequence[Sample | None],
    class_names: Sequence[Sequence[str]],
    captions: Sequence[tuple[str, str]],
    columns: int = 4,
) -> Image.Image:
    """The images in reading order, each with its boxes in the colours of their classes.

    samples: None where an image cannot be read.  class_names: those of each sample.  captions: two
    lines below each image, cut where they are too long.

    >>> import sparse_rcnn_lab as srl
    >>> drawn = srl.Shapes(length=3)
    >>> names, texts = [drawn.class_names] * 3, [("1", "")] * 3
    >>> contact_sheet(list(drawn), names, texts, columns=3).size
    (1324, 397)
    """
    width, height = _TILE
    columns = min(columns, max(len(samples), 1))
    rows = -(-len(samples) // columns)
    page, ink, faded, _ = style.paper("light")
    step = (width + _GAP, height + _BAND + _GAP)
    size = (columns * step[0] + _GAP, rows * step[1] + _GAP)
    sheet = Image.new("RGB", size, page)
    draw = ImageDraw.Draw(sheet)
    for place, (sample, names, caption) in enumerate(
        zip(samples, class_names, captions, strict=True)
    ):
        left, top = (_GAP + step[k] * (place // columns if k else place % columns) for k in (0, 1))
        if sample is None:
            draw.rectangle((left, top, left + width, top + height), outline=faded)
            middle = (left + width / 2, top + height / 2)
            draw.text(middle, "cannot be read", faded, label_font(_TEXT), anchor="mm")
        else:
            shown = _labelled(sample, names)
            place_x = left + (width - shown.width) // 2
            sheet.paste(shown, (place_x, top + height - shown.height))
        for line, (text, color) in enumerate(zip(caption, (ink, faded), strict=True)):
            text, font = cut(text, _TEXT, width)
            draw.text((left, top + height + 6 + line * (_TEXT + 5)), text, color, font)
    return sheet


def _labelled(sample: Sample, names: Sequence[str]) -> Image.Image:
    """The image in the size of a tile, with its boxes, the smallest ones on top."""
    image = as_image(sample.image)
    scale = min(_TILE[0] / image.width, _TILE[1] / image.height)
    small = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    order = (sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(dim=1).argsort().tolist()
    boxes, labels = sample.boxes.tolist(), sample.labels.tolist()
    marks = [
        Mark(tuple(boxes[i]), style.class_color(labels[i]), label=names[labels[i]]) for i in order
    ]
    resample = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BICUBIC
    return draw_marks(image.resize(small, resample), marks, image.size)
