"""What a course is held with: lessons to read and run, assignments that grade themselves.

- ``lessons``: what the cells of ``notebooks/`` call, and how those notebooks are made, run and
  published (``python -m sparse_rcnn_lab.course.lessons --help``)
- ``classroom``: assignments from their sources to the marks (``sparse-rcnn-lab classroom --help``,
  docs/classroom.md)

Public names: those of ``lessons.__all__``; ``need`` says which extra is not installed. May import
any room but ``app`` and ``cli``; of the rooms only ``cli`` imports it.
"""

from importlib.util import find_spec

from sparse_rcnn_lab.core.errors import LabError


def need(extra: str, *modules: str) -> None:
    """Raises LabError where a module is not installed that an extra of this package brings."""
    for module in modules:
        if find_spec(module) is None:
            raise LabError(
                f'This needs {module}. Install it with pip install "sparse-rcnn-lab[{extra}]".'
            )
