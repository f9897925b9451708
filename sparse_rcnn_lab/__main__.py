"""``python -m sparse_rcnn_lab`` is the same as ``sparse-rcnn-lab``."""

from __future__ import annotations

import sys

from sparse_rcnn_lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
