"""One frame of a webcam or a video: detected, drawn, and nothing kept."""

from __future__ import annotations

import time
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.app.bench import SHOWN, Bench, Dials, marked, of_classes
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.views.draw import as_image, detection_marks, draw_marks
from sparse_rcnn_lab.views.embed import encoded

_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Frame:
    """A frame with its boxes. found: None at stage 0.  milliseconds: of the model alone."""

    image: Image.Image
    found: Detections | None
    milliseconds: float


def look_at(bench: Bench, pixels: Tensor, dials: Dials) -> Frame:
    """Detects in ``[3, H, W]`` uint8 RGB and draws; the stages after the chosen one do not run."""
    detector = bench.models[dials.model]
    dials = dials.fitting(detector)
    with bench.turn(frame=True):
        start = time.perf_counter()
        batch = detector.prepare([pixels])
        boxes, features = detector.model.proposals(batch.sizes, dials.proposals)
        stop = max(dials.stage, 1)
        pyramid = detector.runtime.pyramid(batch.images)
        outputs = detector.runtime.run_stages(pyramid, boxes, features, stop=stop)
        found: Detections | None
        if dials.stage and dials.show == SHOWN[0]:
            found = of_classes(detector.decode(outputs[-1], batch, 0, dials.threshold), dials)
            marks = detection_marks(found)
        else:
            marks, found = marked(detector.to_trace(outputs, boxes, features, batch), dials)
        took = 1000 * (time.perf_counter() - start)
        image = draw_marks(as_image(pixels), marks)
    return Frame(image, found, took)


def as_jpeg(image: Image.Image) -> bytes:
    """A picture as the bytes of a JPEG file."""
    return encoded(image, quality=_JPEG_QUALITY)
