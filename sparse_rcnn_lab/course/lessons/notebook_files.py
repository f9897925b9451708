"""The notebooks as files: percent scripts paired with .ipynb, and run from top to bottom."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course import need
from sparse_rcnn_lab.course.lessons.lesson_setup import FAST_VARIABLE
from sparse_rcnn_lab.detect.files import write_text
from sparse_rcnn_lab.views.static import STATIC_VARIABLE

TIMES = "times.json"
# A JupyterLab with jupytext saves both files of a pair. As no metadata go into the script, running
# a lesson does not change it; outputs go into the .ipynb alone.
_PAIRED = {
    "formats": "ipynb,py:percent",
    "notebook_metadata_filter": "-all",
    "cell_metadata_filter": "-all",
}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def lesson_scripts(folder: Path) -> list[Path]:
    """The lessons' scripts (``01_....py``) in ``folder``, in order. Raises LabError without any."""
    found = sorted(p for p in folder.glob("*.py") if re.match(r"\d\d_", p.name))
    if not found:
        raise LabError(f'"{folder}" holds no lessons (01_... .py). Name the folder: --folder PATH.')
    return found


def build(script: Path) -> Any:
    """The notebook of a percent script, without outputs; the same bytes every time."""
    need("notebooks", "jupytext")
    import jupytext
    import nbformat

    notebook = jupytext.read(script)
    notebook.metadata = nbformat.from_dict(
        {
            "jupytext": _PAIRED,
            "kernelspec": KERNEL,
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = f"lesson{script.name[:2]}-{index:02d}"
        cell.metadata = nbformat.from_dict({})
    return notebook


def as_text(notebook: Any) -> str:
    """A notebook as the text of its file."""
    import nbformat

    return nbformat.writes(notebook) + "\n"


def copy_lessons(folder: Path, target: Path) -> list[Path]:
    """Copies the lessons, to be worked in without changing any file of ``folder``.

    An existing copy stays. Returns the copies whose lesson has changed since they were made.
    """
    changed = []
    for script in lesson_scripts(folder):
        path = target / f"{script.stem}.ipynb"
        source = hashlib.sha256(script.read_bytes()).hexdigest()
        if path.is_file():  # it may be cut short and not be JSON
            if source not in path.read_text(encoding="utf-8", errors="replace"):
                changed.append(path)
            continue
        notebook = build(script)
        del notebook.metadata["jupytext"]  # no script is written beside it
        notebook.metadata["lesson"] = source
        write_text(path, as_text(notebook))
    return changed


def sync(folder: Path) -> list[Path]:
    """Writes the .ipynb of every script that has changed; returns them.

    The script is the source: edit it, or the notebook in a JupyterLab with jupytext, which saves
    both.
    """
    written = []
    for script in lesson_scripts(folder):
        text, path = as_text(build(script)), script.with_suffix(".ipynb")
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
            written.append(path)
    return written


def execute(
    script: Path, *, fast: bool = True, static: bool = False, folder: Path | None = None
) -> tuple[Any, float]:
    """Runs a lesson in a new kernel; returns the notebook with its outputs, and the seconds taken.

    fast: toy amounts (SPARSE_RCNN_LAB_FAST).  static: outputs that work without a kernel.
    folder: where the kernel runs; default: the script's folder.
    Raises a LabError that names the lesson and the cell that failed.
    """
    need("notebooks", "nbclient")
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    notebook = build(script)
    environment = {
        **os.environ, FAST_VARIABLE: str(int(fast)), STATIC_VARIABLE: "1" if static else "",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }  # fmt: skip
    environment.pop("MPLBACKEND", None)
    client = NotebookClient(
        notebook, timeout=1800, kernel_name="python3", extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder or script.parent)}},
    )  # fmt: skip
    begin = time.perf_counter()
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        raise LabError(f"{script.name} stopped: {error}") from None
    except DeadKernelError as error:
        raise LabError(
            f"The kernel of {script.name} died ({error}); too little memory is the usual reason."
        ) from None
    return notebook, time.perf_counter() - begin


def run(folder: Path, numbers: list[str], fast: bool) -> dict[str, float]:
    """Runs lessons one after the other, prints how long each took, and returns the times.

    numbers: "01", "05", ...; all when empty. Times of full runs go to ``times.json`` in the folder.
    Raises LabError for a number that no lesson has.
    """
    seconds: dict[str, float] = {}
    scripts = {script.name[:2]: script for script in lesson_scripts(folder)}
    for number in numbers:
        if number not in scripts:
            raise LabError(f'There is no lesson "{number}". Choose from {", ".join(scripts)}.')
    for number, script in scripts.items():
        if numbers and number not in numbers:
            continue
        _, seconds[script.stem] = execute(script, fast=fast)
        print(f"{script.stem:<40}{seconds[script.stem]:7.1f} s", flush=True)
    if not fast:
        path = folder / TIMES
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        known.update({name: round(value, 1) for name, value in seconds.items()})
        write_text(path, json.dumps(dict(sorted(known.items())), indent=2) + "\n")
    return seconds
