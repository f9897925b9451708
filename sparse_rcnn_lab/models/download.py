"""Fetching one large file: progress bar, resumed when cut, and clear words when it fails."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError

ATTEMPTS = 3  # how often a download that was cut goes on where it stopped
PAUSE = 2.0  # seconds before it does
TIMEOUT = 30.0  # seconds without an answer
_BLOCK = 1 << 20


def download(url: str, target: Path, label: str = "", progress: bool = True) -> str:
    """Fetches ``url`` into the file ``target`` and returns the sha256 of its bytes, in hex.

    label: what stands before the progress bar.  A cut connection is taken up where it stopped,
    where the server can do that.
    Raises LabError, naming the url, when the server cannot be reached, has no such file, or the
    connection is cut again and again; OSError when ``target`` cannot be written. ``target`` is
    then left behind in part.
    """
    total: int | None = None
    done, digest = 0, hashlib.sha256()
    with (
        target.open("wb") as file,
        tqdm(desc=label, unit="B", unit_scale=True, leave=False, disable=not progress) as bar,
    ):
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE)
            with _open(url, done) as response:
                if done and response.status != 206:  # it sends the whole file again
                    done, digest = 0, hashlib.sha256()
                    file.seek(0)
                    file.truncate()
                    bar.reset()
                length = response.headers.get("Content-Length")
                total = bar.total = done + int(length) if length else None
                for block in _blocks(response):
                    file.write(block)
                    digest.update(block)
                    done += len(block)
                    bar.update(len(block))
            if total is None or done == total:
                return digest.hexdigest()
    raise LabError(
        f"The download of {url} was cut at {done / 1e6:.1f} of {(total or 0) / 1e6:.1f} MB, "
        f"{ATTEMPTS} times. Check the connection and try again, or {_by_hand(url)}"
    )


def _open(url: str, start: int) -> Any:
    """The answer to a request for the bytes from ``start`` on."""
    headers = {"User-Agent": "sparse_rcnn_lab"}  # some servers refuse Python's own
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise LabError(
            f"The server did not give {url} (HTTP {error.code}, {error.reason}). "
            f"Try again later, or {_by_hand(url)}"
        ) from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise LabError(
            f"{url} could not be reached ({reason}). Check the connection and try again, or "
            f"{_by_hand(url)}"
        ) from error
    except ValueError as error:
        raise LabError(f"{url!r} is not an address that can be downloaded ({error}).") from error


def _blocks(response: Any) -> Iterator[bytes]:
    """What arrives, until the end or until the connection breaks; the caller counts."""
    while True:
        try:
            block = response.read(_BLOCK)
        except (OSError, HTTPException):
            return
        if not block:
            return
        yield block


def _by_hand(url: str) -> str:
    name = url.rpartition("/")[2]
    return f"fetch {name} in any other way and give its path in place of the model's name."
