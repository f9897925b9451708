"""The five published models by name: mmdetection's released files, downloaded once and converted.

Nothing in a released file is executed. It is checked against the first eight digits of its sha256,
which are in its name, then converted; only the converted file is kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from tqdm.auto import tqdm

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import move
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from sparse_rcnn_lab.models.config_edit import to_dict
from sparse_rcnn_lab.runtime.cache_folder import CACHE_VARIABLE, cache_folder

MIRROR_VARIABLE = "SPARSE_RCNN_LAB_WEIGHTS_URL"
RELEASED_AT = "https://download.openmmlab.com/mmdetection/v2.0/sparse_rcnn"

ATTEMPTS = 3  # in all; a further one continues the interrupted download
PAUSE = 2.0  # seconds before a further attempt
TIMEOUT = 30.0  # seconds without an answer
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Release:
    """A file that mmdetection released (its ``configs/sparse_rcnn/metafile.yml``).

    name: that of our recipe.  folder: the file's folder on mmdetection's server, named as its
    config.  version: the time of the training and, after the dash, the first 8 hex digits of the
    sha256.  megabytes: size of the converted file, in 1e6 bytes.
    """

    name: str
    folder: str
    version: str
    megabytes: int

    @property
    def file(self) -> str:
        """The name of the released file."""
        return f"{self.folder}_{self.version}.pth"

    @property
    def digest(self) -> str:
        """The first digits of its sha256."""
        return self.version.rpartition("-")[2]

    @property
    def recipe(self) -> Recipe:
        """The recipe that it was trained with."""
        return recipes.recipe(self.name)

    @property
    def cached(self) -> Path:
        """The path of the converted file, whether or not it exists."""
        return cache_folder() / "weights" / f"{self.name}-{self.digest}.safetensors"

    def url(self) -> str:
        """The address that the file is downloaded from.

        The environment variable SPARSE_RCNN_LAB_WEIGHTS_URL may name another place, an address or a
        folder of this machine, that has the five files side by side.
        """
        mirror = os.environ.get(MIRROR_VARIABLE)
        if not mirror:
            return f"{RELEASED_AT}/{self.folder}/{self.file}"
        if "://" not in mirror:
            mirror = Path(mirror).expanduser().resolve().as_uri()
        return f"{mirror.rstrip('/')}/{self.file}"


_MULTI_SCALE = "fpn_mstrain_480-800_3x_coco"
_CROP = "fpn_300_proposals_crop_mstrain_480-800_3x_coco"
RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        Release("r50_1x_100", "sparse_rcnn_r50_fpn_1x_coco", "20201222_214453-dc79b137", 425),
        Release("r50_3x_100", f"sparse_rcnn_r50_{_MULTI_SCALE}", "20201218_154234-7bc5c054", 425),
        Release("r50_3x_300", f"sparse_rcnn_r50_{_CROP}", "20201223_024605-9fe92701", 426),
        Release("r101_3x_100", f"sparse_rcnn_r101_{_MULTI_SCALE}", "20201223_121552-6c46c9d6", 502),
        Release("r101_3x_300", f"sparse_rcnn_r101_{_CROP}", "20201223_023452-c23c3564", 502),
    )
}


def fetch(name: str, progress: bool = True) -> Path:
    """The converted file of a published model, downloaded at first use (0.4 to 0.5 GB).

    Several processes may ask at once: one downloads, the others wait.
    Raises LabError when the file cannot be downloaded or stored, is not the released one, could
    only be read by executing code, or holds another model than the recipe's; the cache is then as
    it was before.

    >>> RELEASES["r50_3x_300"].recipe.published_ap, RELEASES["r50_3x_300"].megabytes
    (45.0, 426)
    """
    release = RELEASES[name]
    cached = release.cached
    if _is_whole(cached):
        return cached
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with _lock(cached) as held:
            if _is_whole(cached):  # another process has downloaded it
                return cached
            if held:
                _remove_leftovers(cached)
            _fetch(release, cached, progress)
    except OSError as error:
        raise LabError(
            f'"{cached.parent}" cannot keep the weights of {name} ({error.strerror or error}). '
            f"Free {2 * release.megabytes} MB, half of them only for a moment, or name another "
            f"folder in {CACHE_VARIABLE}."
        ) from error
    return cached


def about(path: Path) -> dict[str, Any]:
    """What is known about a file that has the name of a released one; else nothing."""
    for release in RELEASES.values():
        if path.name == release.file:
            return _info(release)
    return {}


def _info(release: Release) -> dict[str, Any]:
    return {
        "published": release.name,
        "recipe": to_dict(release.recipe),
        "source": f"mmdetection's {release.file}",
    }


def _fetch(release: Release, cached: Path, progress: bool) -> None:
    url = release.url()
    _say(f"{release.name}: downloading {url} once; the converted file is kept in {cached.parent}")
    with tempfile.TemporaryDirectory(
        prefix=f".{cached.name}.", dir=cached.parent, ignore_cleanup_errors=True
    ) as folder:
        source = Path(folder) / release.file
        digest = download(url, source, release.name, progress)
        if not digest.startswith(release.digest):
            raise LabError(
                f"{url} is not the released file: its sha256 starts with {digest[:8]}, that of "
                f"the release with {release.digest}. The file is damaged or another one; nothing "
                "of it was kept. Try again, or use another source."
            )
        # In a folder of its own, since safetensors too leaves a file behind when it is killed.
        converted = Path(folder) / cached.name
        _convert(read_checkpoint(source), release, digest, converted)
        move(converted, cached)


def _convert(checkpoint: Checkpoint, release: Release, digest: str, target: Path) -> None:
    found, wanted = checkpoint.config, release.recipe.model
    differing = [
        f"{name} {value}, not {getattr(wanted, name)}"
        for name, value in vars(found).items()
        if value != getattr(wanted, name)
    ]
    if differing:
        raise LabError(
            f"{release.file} does not hold the model {release.name}: it has "
            f"{'; '.join(differing)}. Nothing of it was kept."
        )
    model = replace(checkpoint, config=wanted).build()
    info = {**_info(release), "sha256": digest}
    save_checkpoint(target, model, checkpoint.class_names, release.name, info)


def _is_whole(path: Path) -> bool:
    """Whether ``path`` exists with all its tensors; reads only the header."""
    if not path.is_file():
        return False
    try:
        with safe_open(str(path), framework="pt"):
            return True
    except (SafetensorError, OSError):
        _say(f"{path} is damaged and will be downloaded again")
        return False


def _remove_leftovers(cached: Path) -> None:
    """Removes what a killed process has left; under the lock nobody else is at work."""
    for path in cached.parent.glob(f".{cached.name}.*"):  # files.write_whole's names, too
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _lock(cached: Path) -> Iterator[bool]:
    """Waits until no other process downloads ``cached``. False where the system has no such locks.

    Without a lock two processes both download, and the file of the last one, the same, stays.
    """
    if sys.platform == "win32":
        yield False
        return
    import fcntl

    with cached.with_suffix(".lock").open("w") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say(f"{cached.stem}: another process is downloading it; waiting for that one")
                fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        except OSError:  # some network file systems
            held = False
        yield held


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def download(url: str, target: Path, label: str = "", progress: bool = True) -> str:
    """Downloads ``url`` into the file ``target`` and returns the sha256 of its bytes, in hex.

    label: text before the progress bar.  An interrupted download continues where it stopped if the
    server supports that.
    Raises LabError, naming the url, when the server cannot be reached, has no such file, or the
    connection breaks again and again; OSError when ``target`` cannot be written. Part of
    ``target`` is then left behind.
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
                if done and response.status != 206:  # the server sends the whole file again
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
    headers = {"User-Agent": "sparse_rcnn_lab"}  # some servers refuse Python's default
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise LabError(
            f"The server did not send {url} (HTTP {error.code}, {error.reason}). "
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
    """The blocks that arrive, until the end or until the connection breaks; the caller counts."""
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
    return f"download {name} in another way and give its path in place of the model's name."
