"""What the page takes in, and what it says when that is too much."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sparse_rcnn_lab.core.errors import LabError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Limits:
    """The largest things that somebody may send.

    upload_mb: a file, in units of 1e6 bytes.  megapixels: a picture.  frame_megapixels: a frame of
    a webcam or a video.  video_seconds: length of a video.  body_mb: any other request; a frame
    of a webcam travels in one.
    """

    upload_mb: int = 100
    megapixels: float = 50.0
    frame_megapixels: float = 9.0
    video_seconds: float = 120.0
    body_mb: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.upload_mb <= 10_000:
            raise LabError(f"--max-size must be 1 to 10000 megabytes, found {self.upload_mb}.")

    def check_picture(self, image: Image.Image, name: str) -> None:
        """Raises LabError for a picture of too many pixels; only its header has been read."""
        check_pixels(name, *image.size, self.megapixels)

    def check_file(self, path: Path) -> None:
        """Raises LabError for a file that is too large; uploads were refused before."""
        size = path.stat().st_size / 1e6
        if size > self.upload_mb:
            raise LabError(
                f'"{path.name}" has {size:.0f} MB; this page takes up to {self.upload_mb} MB. '
                "Make it smaller, or start the app with a larger --max-size."
            )


def check_pixels(name: str, width: int, height: int, most: float) -> None:
    """Raises LabError when ``name`` has more than ``most`` megapixels."""
    found = width * height / 1e6
    if found > most:
        raise LabError(
            f'"{name}" has {width}x{height} pixels ({found:.0f} megapixels); this page takes up to '
            f"{most:.0f}. Make it smaller first."
        )


class BodyLimit:
    """Refuses requests, other than uploads, with a body of more than ``most`` bytes (HTTP 413).

    Gradio limits uploads by itself; without this, anything else could fill the memory.
    """

    def __init__(self, app: App, most: int) -> None:
        self.app = app
        self.most = most

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request (ASGI)."""
        if scope["type"] != "http" or str(scope["path"]).endswith("/upload"):
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.most:
            await _thrown_away(receive, 8 * self.most)
            text = f"A request may hold up to {self.most / 1e6:.0f} MB.".encode()
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": text})
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            # Sent in pieces without a length: cut the line.
            return {"type": "http.disconnect"} if seen > self.most else message

        await self.app(scope, counted, send)


async def _thrown_away(receive: Receive, most: int) -> None:
    """Reads a body and forgets it: who is cut off while sending never sees the answer."""
    seen = 0
    while seen <= most:
        message = await receive()
        seen += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
