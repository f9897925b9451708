"""The folder for files that can be created again: downloaded weights, engines' graphs, tables."""

from __future__ import annotations

import os
from pathlib import Path

from sparse_rcnn_lab.core.errors import LabError

CACHE_VARIABLE = "SPARSE_RCNN_LAB_CACHE"


def cache_folder() -> Path:
    """The cache folder, which need not exist yet.

    It is SPARSE_RCNN_LAB_CACHE, or else ``sparse_rcnn_lab`` in XDG_CACHE_HOME or in ``~/.cache``.
    """
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "sparse_rcnn_lab"
    except RuntimeError as error:
        raise LabError(
            f"There is no home folder to keep the weights in. Name a folder in {CACHE_VARIABLE}."
        ) from error
