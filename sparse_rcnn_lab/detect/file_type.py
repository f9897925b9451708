"""Tells a file's type from its first bytes, for error messages only."""

from __future__ import annotations

from pathlib import Path

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "a damaged JPEG"),
    (b"\x89PNG\r\n\x1a\n", "a damaged PNG"),
    (b"GIF8", "a damaged GIF"),
    (b"BM", "a damaged BMP"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "Photoshop"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x1a\x45\xdf\xa3", "WebM or Matroska video"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"7z\xbc\xaf", "7z archive"),
    (b"\x93NUMPY", "numpy array"),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", "a Python pickle of torch"),
    *((b"\x80" + bytes([version]), "a Python pickle") for version in range(2, 6)),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)
_RIFF = {b"AVI ": "AVI video", b"WEBP": "a damaged WebP", b"WAVE": "WAV sound"}
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "HEIF"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "a camera's raw file",
    b"qt  ": "QuickTime video",
}


def describe_file(path: Path) -> str:
    """A word or two that say what the file is, such as ``HEIF``, ``PDF`` or ``an empty file``."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return "an unreadable file"
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "MP4 video")
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "RIFF container")
    if head[:4] in (b"II*\x00", b"MM\x00*"):
        return "a damaged TIFF or a camera's raw file"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return _describe_text(head)


def _describe_text(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "HTML, a web page"
    if b"<svg" in start:
        return "SVG"
    if start.startswith(b"<?xml"):
        return "XML"
    if not any(head):
        return "nothing but zero bytes"
    try:
        head[:256].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < min(len(head), 256) - 4:  # else a character was cut at the end
            return "an unknown format"
    if b"\x00" in head:
        return "an unknown format"
    return "JSON" if start.startswith((b"{", b"[")) else "text"
