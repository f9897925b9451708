"""Pictures as the bytes of a file, and as an address that holds them: pages without other files."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The picture as a file of ``kind``, a format of Pillow, which takes the ``options``."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def data_uri(data: bytes, kind: str = "jpeg") -> str:
    """``data:image/...``: the bytes of a picture's file as an address for ``src``."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
