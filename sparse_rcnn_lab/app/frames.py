"""One frame of a webcam or a video: detected, drawn, and nothing kept."""

from __future__ import annotations

import io
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.app.bench import SHOWN, Bench, Dials, marked, of_classes
from sparse_rcnn_lab.trace import Detections
from sparse_rcnn_lab.views.draw import as_image, detection_marks, draw_marks

_SESSIONS = 64
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
    model = detector.model
    with bench.turn(frame=True):
        start = time.perf_counter()
        batch = detector.prepare([pixels])
        boxes, features = model.proposals(batch.sizes, dials.proposals)
        stop = max(dials.stage, 1)
        outputs = model.run_stages(model.pyramid(batch.images), boxes, features, stop=stop)
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
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


class LastFrames:
    """The last frame of each running webcam, as the camera sent it: what a snapshot takes.

    Bounded: the one that has not moved for longest goes first.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def keep(self, session: str, frame: bytes) -> None:
        """Takes the place of the session's frame before."""
        with self._lock:
            self._kept[session] = frame
            self._kept.move_to_end(session)
            while len(self._kept) > _SESSIONS:
                self._kept.popitem(last=False)

    def of(self, session: str) -> bytes | None:
        """The session's last frame, or None."""
        return self._kept.get(session)

    def forget(self, session: str) -> None:
        """The page was closed."""
        with self._lock:
            self._kept.pop(session, None)
