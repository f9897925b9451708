"""What an assignment asks for, the student writes: the package's own answers refuse to be called.

Only calls that stand in the notebook itself are refused, however the function was imported; the
package goes on using it. This holds up honest people who copy too quickly; it is no lock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import FunctionType
from typing import Any

_BOXES = (
    "xyxy_to_cxcywh cxcywh_to_xyxy xyxy_to_xywh xywh_to_xyxy area intersection paired_iou "
    "paired_giou iou giou encode_deltas decode_deltas"
)
_TORCHVISION = (
    "box_area box_convert box_iou generalized_box_iou distance_box_iou complete_box_iou "
    "generalized_box_iou_loss sigmoid_focal_loss roi_align"
)
# Assignment -> module -> functions; a class stands for its constructor.
ANSWERS: dict[str, dict[str, str]] = {
    "boxes": {"sparse_rcnn_lab.core.boxes": _BOXES, "torchvision.ops": _TORCHVISION},
    "matching": {
        "sparse_rcnn_lab.core.matching": "focal_cost matching_cost assign match",
        "sparse_rcnn_lab.core.losses": "focal_loss set_loss",
        "sparse_rcnn_lab.course.classroom.stand_ins": (
            "class_cost box_cost total_cost match focal_loss box_losses"
        ),
        "torchvision.ops": "sigmoid_focal_loss generalized_box_iou_loss",
    },
    "stage": {
        "sparse_rcnn_lab.core.stage": "SelfAttention DynamicInteraction",
        "sparse_rcnn_lab.core.pooling": "assign_levels pool",
        "sparse_rcnn_lab.runtime.roi_align": "roi_align_pool",
        "sparse_rcnn_lab.course.classroom.stand_ins": "bilinear attention interact",
        "torchvision.ops": "roi_align",
    },
    "experiment": {"sparse_rcnn_lab.course.classroom.stand_ins": "spread"},
}

# Who calls for a student: the notebook, or a check that was given the function itself.
_STUDENTS = ("__main__", "sparse_rcnn_lab.course.classroom.checks")
_guarded: set[str] = set()  # modules
_originals: dict[str, FunctionType] = {}  # what the guarded functions and constructors did
_copies: dict[str, Callable[..., Any]] = {}  # never guarded


class NotYourOwn(Exception):
    """The notebook called a function that the assignment asks for."""


def original(name: str) -> Callable[..., Any]:
    """A copy of the function ``module:name`` that refuses nobody, now or later."""
    if name not in _copies:
        module, _, function = name.partition(":")
        found = getattr(import_module(module), function)
        _copies[name] = _originals.get(name) or _copy(found)
    return _copies[name]


def refuse_answers(assignment: str) -> bool:
    """From now on the answers to ``assignment`` refuse calls from the notebook.

    Only modules that somebody has imported are looked at, as torchvision takes seconds. True when
    there was one that had not been guarded before.
    """
    new = False
    for module, names in ANSWERS[assignment].items():
        home = sys.modules.get(module)
        if home is None or module in _guarded or getattr(home.__spec__, "_initializing", False):
            continue
        for name in names.split():
            if hasattr(home, name):
                _guard(f"{module}:{name}", getattr(home, name))
        _guarded.add(module)
        new = True
    return new


def serve_everybody() -> None:
    """Ends what :func:`refuse_answers` began."""
    for name, function in _originals.items():
        module, _, attribute = name.partition(":")
        target = getattr(import_module(module), attribute)
        if isinstance(target, type):
            target.__init__ = function  # type: ignore[misc]
            continue
        target = getattr(target, "__wrapped__", target)
        target.__code__ = function.__code__
        target.__defaults__, target.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    _originals.clear()
    _guarded.clear()


def _guard(name: str, target: Any) -> None:
    if name in _originals:
        return
    function: Any = vars(target)["__init__"] if isinstance(target, type) else target
    function = getattr(function, "__wrapped__", function)  # torch.no_grad keeps it there
    place: dict[str, Any] = {}
    exec(
        "def guarded(*args, **kwargs):\n"
        "    from sparse_rcnn_lab.course.classroom import guard\n"
        f"    return guard.called({name!r}, args, kwargs)\n",
        place,
    )
    if isinstance(target, type):
        _originals[name] = function
        target.__init__ = place["guarded"]  # type: ignore[misc]
        return
    _originals[name] = _copy(function)
    # Exchanging the code, not the name, reaches every alias that was imported before.
    function.__code__ = place["guarded"].__code__
    function.__defaults__ = function.__kwdefaults__ = None


def _copy(function: FunctionType) -> FunctionType:
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def called(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a guarded function does: refuse the notebook, serve everybody else."""
    if sys._getframe(2).f_globals.get("__name__") in _STUDENTS:
        module, _, function = name.partition(":")
        raise NotYourOwn(
            f"{module}.{function} is what this assignment asks for. Write it yourself."
        )
    return _originals[name](*args, **kwargs)
