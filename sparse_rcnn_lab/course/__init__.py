"""Everything for a course: lessons to read and run, and autograded assignments.

- ``lessons``: what the cells of ``notebooks/`` call, and how those notebooks are made, run and
  published (``python -m sparse_rcnn_lab.course.lessons --help``)
- ``classroom``: assignments from their sources to the marks (``sparse-rcnn-lab classroom --help``,
  docs/classroom.md)

Public names: those of ``lessons.__all__``; ``need`` reports a missing extra. This room may import
every other one except ``app`` and ``cli``; only ``cli`` imports it.
"""

from importlib.util import find_spec

from sparse_rcnn_lab.core.errors import LabError


def need(extra: str, *modules: str) -> None:
    """Raises LabError where a module of an extra of this package is not installed."""
    for module in modules:
        if find_spec(module) is None:
            raise LabError(
                f'This needs {module}. Install it with pip install "sparse-rcnn-lab[{extra}]".'
            )
