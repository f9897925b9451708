"""``validate``: what a student runs before submitting; it needs only Jupyter.

All cells run from top to bottom in a new kernel, as they will when they are graded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course import need

_RUNNING = "SPARSE_RCNN_LAB_VALIDATING"
# In a test cell from which build has removed a hidden part and left another one.
MORE_HIDDEN = "# More of this is checked when it is graded (hidden)."


class Outcome(NamedTuple):
    """The outcome of a test cell. problem: its message, or empty where it passed.

    hidden: there is nothing to run in it; the instructor's copy has the test.
    more: only a part of it was run; the instructor's copy has the rest.
    """

    name: str
    problem: str
    hidden: bool = False
    more: bool = False


def grading() -> bool:
    """True while a notebook is graded or validated, when everything long is made short."""
    return any(os.environ.get(name) for name in ("NBGRADER_EXECUTION", _RUNNING))


def validate(path: str | Path, seconds: int = 180) -> list[Outcome]:
    """Runs a notebook and returns the outcome of each of its tests; the file stays as it is.

    Raises LabError where it is not a notebook or Jupyter is not installed.
    """
    path = Path(path)
    need("notebooks", "nbclient", "nbformat")
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    try:
        # Not just json, as JupyterLab saves a cell as a list of lines.
        notebook: Any = nbformat.reads(path.read_text(encoding="utf-8-sig"), as_version=4)
        cells = notebook.cells
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:
        raise LabError(f'"{path}" is not a notebook that can be read. Save it first?') from error
    client = NotebookClient(
        notebook,
        timeout=seconds,
        kernel_name="python3",  # this Python's kernel: the notebook may name another one
        allow_errors=True,
        resources={"metadata": {"path": str(path.resolve().parent)}},
    )
    os.environ[_RUNNING] = "1"  # the kernel inherits it
    try:
        client.execute(stderr=subprocess.DEVNULL)  # a kernel's own warnings
    except (CellTimeoutError, DeadKernelError) as error:
        raise LabError(
            f'"{path}" did not run to its end: a cell took more than {seconds} s, or ended Python. '
            "Run the cells one by one to find it."
        ) from error
    finally:
        del os.environ[_RUNNING]
    outcomes = []
    for cell in cells:
        role = cell.metadata.get("nbgrader", {})
        if role.get("grade") and cell.cell_type == "code":
            failed = next((out for out in cell.outputs if out.output_type == "error"), None)
            problem = (failed.evalue or failed.ename) if failed else ""
            if failed and failed.ename == "NameError":  # not a mistake: an answer is missing yet
                problem = f"Not yet: {problem}."
            hidden = not problem and _checks_nothing(cell.source)
            outcomes.append(Outcome(role["grade_id"], problem, hidden, MORE_HIDDEN in cell.source))
    return outcomes


def _checks_nothing(source: str) -> bool:
    """Whether a test cell has only comments, apart from what build adds to each."""
    lines = [line.strip() for line in source.splitlines()]
    return all(not x or x.startswith(("#", "def _test():", "from ", "_test()")) for x in lines)


def before_handing_in(path: str | Path) -> None:
    """The last cell of each assignment: validates the saved file and prints the outcomes.

    It does nothing while the notebook is validated or graded, as that would never end.
    """
    if grading():
        return
    if not Path(path).exists():
        print(f'There is no "{path}" here. If the file has another name, change the line above.')
        return
    print("Running the saved file from top to bottom ...", flush=True)
    command = [sys.executable, "-m", "sparse_rcnn_lab", "classroom", "validate", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    print(done.stdout + done.stderr, end="")  # a notebook does not show what a child prints
