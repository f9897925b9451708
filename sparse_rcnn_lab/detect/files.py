"""Files are written whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from sparse_rcnn_lab.core.errors import LabError

if TYPE_CHECKING:
    from torch import Tensor

FORMULA = re.compile(r"[=+@\t\r-](?![\d.,]*$)")  # "-" alone, and numbers, are not formulas
_TRIES, _PAUSE = 60, 0.05  # seconds


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary file beside ``path`` to write; moves it into place when all went well.

    A crash, an exception or a full disk leaves the old file as it was. Missing parent folders are
    created. Raises LabError where ``path`` cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with write_whole(Path(folder, "notes", "a.txt")) as temporary:
    ...         _ = temporary.write_text("whole or absent")
    ...     [file.name for file in Path(folder, "notes").iterdir()]
    ['a.txt']
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new_beside(path)
        rights = temporary.stat().st_mode & 0o777
        yield temporary
        with contextlib.suppress(OSError):  # some file systems have no permissions
            temporary.chmod(rights)  # safetensors recreates the file, readable by its owner alone
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        move(temporary, path)
    except OSError as error:
        raise LabError(
            f'Could not write "{path}" ({error.strerror or error}). Check that the folder can be '
            "written and the disk is not full."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Moves a file, or a folder where there is none yet, to ``target``.

    Windows refuses this while a program, such as a virus scanner, reads either of them: then it is
    tried again for some seconds.
    """
    for _ in range(_TRIES if sys.platform == "win32" else 0):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(_PAUSE)
    os.replace(source, target)


def _new_beside(path: Path) -> Path:
    """An empty file with a unique name and the usual permissions."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0)
    while True:
        new = path.parent / f".{path.name}.{secrets.token_hex(4)}"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(new, flags, 0o666))
            return new


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file whole or not at all."""
    from safetensors.torch import save_file  # imported here, as text needs no torch

    with write_whole(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:  # a full disk, among others
            raise OSError(str(error)) from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with write_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def no_formula(value: Any) -> Any:
    """A value for a csv file; a text that a spreadsheet program would run gets a ' before it."""
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value
