"""Videos, read and written by PyAV, which needs no installed ffmpeg: with boxes, and as a film."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.app.state import ViewState
from sparse_rcnn_lab.app.user_inputs import InputImage, Limits, check_pixels
from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views.draw import display_size
from sparse_rcnn_lab.views.film import PER_SECOND, film_frames

MAX_SIDE = 1280  # long side of a written video at most, pixels
SAMPLE_SIDE = 640  # long side of the sample video, pixels
_TICK = Fraction(1, 90_000)  # unit of the clock of a written video, seconds
# Only containers, since a playlist could name other files of this machine, or addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,gif"


@dataclass(frozen=True)
class Clip:
    """A video file. seconds: its length.  rate: its highest number of frames per second.  width,
    height: of the frames from :meth:`frames`, upright in square pixels, at most ``MAX_SIDE``.
    """

    path: Path
    seconds: float
    rate: float
    width: int
    height: int

    def frames(self, per_second: float) -> Iterator[tuple[float, Tensor]]:
        """(time in seconds, ``[3, H, W]`` uint8 RGB) of ``per_second`` frames per second.

        A damaged file ends where the damage begins.
        """
        with self.path.open("rb") as file, _opened(file, self.path.name) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            due = 0.0
            for now, frame in _timed(container, stream):
                if now + 1e-6 < due:
                    continue
                due = max(due + 1 / per_second, now + 0.5 / per_second)
                yield now, self._upright(frame)

    def _upright(self, frame: Any) -> Tensor:
        turns = round(frame.rotation / 90) % 4
        width, height = (self.width, self.height) if turns % 2 == 0 else (self.height, self.width)
        array = frame.to_ndarray(format="rgb24", width=width, height=height)
        array = np.rot90(array, turns)
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def open_clip(path: str | Path, limits: Limits) -> Clip:
    """Opens a video file. Raises LabError when it is not a video, too long or too large."""
    path = Path(path)
    limits.check_file(path)
    if path.stat().st_size == 0:
        raise LabError(f'"{path.name}" is an empty file. Was the copy cut short? Fetch it again.')
    with path.open("rb") as file, _opened(file, path.name) as container:
        if not container.streams.video:
            raise LabError(f'"{path.name}" has no images, only sound.')
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise LabError(
                f'"{path.name}" is of a kind (codec) that cannot be read here. Convert it to MP4 '
                "(H.264) or WebM."
            )
        check_pixels(path.name, stream.width, stream.height, limits.frame_megapixels)
        seconds = _seconds(container, stream)
        frame = next(_decoded(container, stream), None)
        if frame is None:
            raise LabError(f'"{path.name}" has no frame that can be read; it may be damaged.')
        # With irregular frame times the average rate would leave out frames of a dense part.
        rate = float(max(stream.average_rate or 0, stream.guessed_rate or 0) or 25)
        wide = float(stream.sample_aspect_ratio or 1)  # width / height of a pixel
        wide = wide if 0.1 <= wide <= 10 else 1.0
        size = round(frame.width * max(wide, 1)), round(frame.height / min(wide, 1))
        width, height = display_size(*size, max_side=MAX_SIDE)
        if round(frame.rotation / 90) % 2:
            width, height = height, width
        if seconds <= 0:  # as in recordings of browsers
            seconds = _counted(container, stream, frame)
    if seconds > limits.video_seconds:
        raise LabError(
            f'"{path.name}" is {seconds:.0f} s long; this page takes up to '
            f"{limits.video_seconds:.0f} s. Cut it shorter first."
        )
    return Clip(path, seconds, min(max(rate, 1.0), 120.0), width, height)


class Writer:
    """Writes images of one size as an MP4 (H.264) that browsers play; a context manager.

    rate: frames per second.  Images with odd sides lose a row or a column.
    """

    def __init__(self, path: Path, rate: float) -> None:
        _needs_av()
        self.path = path
        self._rate = Fraction(rate).limit_denominator(1000)
        self._container: Any = None
        self._stream: Any = None
        self._tick = 0  # of the next frame

    def add(self, image: Image.Image, times: int = 1, at: float | None = None) -> None:
        """Adds an image for ``times`` frames. at: seconds, later than the last; None: next."""
        import av

        width, height = image.width // 2 * 2, image.height // 2 * 2
        if self._container is None:
            self._container = av.open(
                str(self.path), "w", format="mp4", options={"movflags": "+faststart"}
            )
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = _TICK
            self._stream.options = {"preset": "veryfast", "crf": "23"}
        array = np.asarray(image.convert("RGB"))[: self._stream.height, : self._stream.width]
        for _ in range(times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            self._tick = self._tick if at is None else round(at / _TICK)
            frame.pts, frame.time_base = self._tick, _TICK
            self._tick += round(1 / self._rate / _TICK)
            self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._container is not None:
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
        if kind is not None:
            self.path.unlink(missing_ok=True)


def _needs_av() -> None:
    if find_spec("av") is None:
        raise LabError("Videos need PyAV: pip install 'sparse-rcnn-lab[demo]'")


def _opened(file: BinaryIO, name: str) -> Any:
    _needs_av()
    import av

    try:
        return av.open(file, options={"format_whitelist": _FORMATS})
    except (av.error.FFmpegError, ValueError, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LabError(
            f'"{name}" is not a video that can be read ({reason}). Convert it to MP4 or WebM.'
        ) from None


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    import av

    try:
        yield from container.decode(stream)
    except (av.error.FFmpegError, EOFError):
        return


def _timed(container: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """The frames, each with its time in seconds."""
    if container.format.name != "avi":
        # The file's own clock at its first frame, which is not 0 in every container.
        origin = float((stream.start_time or 0) * stream.time_base)
        for frame in _decoded(container, stream):
            if frame.time is not None:
                yield frame.time - origin, frame
        return
    # AVI has times only for packets, which come in decoding order.
    first: int | None = None
    now = 0.0
    for frame in _decoded(container, stream):
        if frame.dts is not None:
            first = frame.dts if first is None else first
            now = float((frame.dts - first) * stream.time_base)
        yield now, frame
        now += 1 / float(stream.average_rate or 25)


def _seconds(container: Any, stream: Any) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    seconds, start = float(container.duration or 0) / 1e6, float(container.start_time or 0) / 1e6
    # Matroska states when the last frame ends, by the file's own clock.
    return seconds - start if "matroska" in container.format.name and start < seconds else seconds


def _counted(container: Any, stream: Any, first: Any) -> float:
    """When the last frame ends, from the frames; without decoding them."""
    import av

    start = end = first.pts or 0
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                end = max(end, packet.pts + (packet.duration or 0))
    except (av.error.FFmpegError, EOFError):
        pass
    return float((end - start) * stream.time_base)


@dataclass(frozen=True)
class Progress:
    """The progress of a video. done, total: seconds of video.  took: seconds of work.  frames: how
    many are written.  image: the last one.  cut: where and why it ended early, a sentence, or "".
    """

    done: float
    total: float
    took: float
    frames: int
    image: Image.Image
    cut: str = ""


def annotate(
    viewer: Viewer,
    clip: Clip,
    state: ViewState,
    per_second: float,
    target: Path,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Writes the video with its boxes to ``target`` and yields the progress after every frame, each
    of which keeps its time.

    per_second: frames per second in which to detect.  stopped: called before every frame; what was
    done until then is kept.  When the caller stops iterating, nothing is kept.
    """
    rate = min(max(per_second, 1.0), clip.rate)
    start = time.monotonic()
    last: Progress | None = None
    cut = ""
    with Writer(target, rate) as writer:
        for now, pixels in clip.frames(rate):
            if stopped():
                break
            # Its header may have stated a wrong length.
            if now > (longest := viewer.limits.video_seconds):
                cut = f"Cut at {longest:.0f} s, the limit of this page."
                break
            image = viewer.view_frame(pixels, state).image
            writer.add(image, at=now)
            total = max(clip.seconds, now)
            done = min(now + 1 / rate, total)
            took = time.monotonic() - start
            last = Progress(done, total, took, last.frames + 1 if last else 1, image)
            yield last
        else:
            if last is not None and last.total - last.done > 1:
                cut = f"The last frame that can be read ends at {last.done:.1f} s."
    if last is not None and cut:
        yield replace(last, cut=cut)


def film_of(trace: Trace, threshold: float, target: Path) -> Path:
    """Writes an MP4 of all proposals going through the stages, one second each."""
    with Writer(target, PER_SECOND) as writer:
        for image, seconds in film_frames(trace, threshold, stage_seconds=1.0):
            writer.add(image, max(1, round(seconds * PER_SECOND)))
    return target


def sample_video(image: InputImage, target: Path, seconds: float = 4.0) -> Path:
    """Writes a slow pan across an image, to try when no video is at hand."""
    rate = 15
    whole = image.shown
    side = 0.7
    width, height = max(1, int(whole.width * side)), max(1, int(whole.height * side))
    # At least two pixels, as the encoder accepts only even sides.
    wide, high = display_size(width, height, SAMPLE_SIDE, SAMPLE_SIDE)
    with Writer(target, rate) as writer:
        for number in range(int(seconds * rate)):
            part = number / (seconds * rate - 1)
            left, top = part * (whole.width - width), (1 - part) * (whole.height - height)
            view = whole.crop((int(left), int(top), int(left) + width, int(top) + height))
            writer.add(view.resize((max(2, wide), max(2, high))))
    return target
