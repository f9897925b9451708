"""Whether outputs must work without a kernel, as on a page of saved outputs."""

from __future__ import annotations

import os

STATIC_VARIABLE = "SPARSE_RCNN_LAB_STATIC"


def is_static() -> bool:
    """Whether SPARSE_RCNN_LAB_STATIC is set to anything but 0."""
    return os.environ.get(STATIC_VARIABLE, "") not in ("", "0")
