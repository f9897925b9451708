"""The demo app: python apps/demo.py, then http://127.0.0.1:7860. ``--help`` lists the options."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

try:
    from sparse_rcnn_lab.cli.common import replace_unprintable
    from sparse_rcnn_lab.core.errors import LabError
except ModuleNotFoundError:  # started from a fresh clone, where the package is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from sparse_rcnn_lab.cli.common import replace_unprintable
    from sparse_rcnn_lab.core.errors import LabError


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="demo.py",
        description="Opens a page that detects objects in your images and shows how: the "
        "proposals, what each stage makes of them, and which score counts as a detection.",
        epilog="Everything runs on this machine; without --share no image leaves it.",
    )
    add = parser.add_argument
    add(
        "--model", metavar="NAME", help="model to show first: shipped (small-everyday) or published"
    )
    add(
        "--checkpoint",
        metavar="FILE_OR_RUN",
        help="a model of yours: the run folder that training wrote, or a checkpoint file",
    )
    add("--host", default="127.0.0.1", help="0.0.0.0 lets your network in (default: %(default)s)")
    add("--port", type=int, default=7860, help="port of the page (default: %(default)s)")
    add("--share", action="store_true", help="make a temporary public address; needs internet")
    add("--ssl-certfile", metavar="PEM", help="certificate for https, needed by remote webcams")
    add("--ssl-keyfile", metavar="PEM", help="key of the certificate")
    add(
        "--root-path",
        default=os.environ.get("GRADIO_ROOT_PATH", ""),
        metavar="PATH",
        help="path under which a proxy serves the page, as on JupyterHub: /user/NAME/proxy/7860",
    )
    add("--device", default="auto", help="cpu, cuda or mps (default: cuda where there is one)")
    add(
        "--max-size", type=int, default=100, help="largest upload, megabytes (default: %(default)s)"
    )
    add(
        "--concurrency",
        type=int,
        default=8,
        help="webcams that may run at once; others wait (default: %(default)s)",
    )
    add("--no-browser", action="store_true", help="do not open a browser window")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the command line and serves the page; 0 when stopped, 1 with one line when not."""
    replace_unprintable()
    options = arguments(argv)
    if importlib.util.find_spec("gradio") is None:
        print("The demo needs Gradio: pip install 'sparse-rcnn-lab[demo]'", file=sys.stderr)
        return 1
    # Ended like Ctrl+C, so that the folder of the app's files goes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Only now: --help should not wait for torch.
        from sparse_rcnn_lab.app import Address, Limits, Viewer, models_to_offer, serve
        from sparse_rcnn_lab.app.server import stay

        address = Address(
            options.host,
            options.port,
            options.share,
            options.ssl_certfile,
            options.ssl_keyfile,
            options.root_path,
        )
        address.check()
        limits = Limits(upload_mb=options.max_size)
        models = models_to_offer(options.model, options.checkpoint)
        print(f"Loading {models[0]} …" if models else "Starting …", flush=True)
        viewer = Viewer(models, options.device, limits)
        stay(serve(viewer, address, options.concurrency, not options.no_browser))
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def leave(code: int) -> NoReturn:
    """Ends the process at once: taking torch and Gradio apart would take seconds."""
    logging.shutdown()
    atexit._run_exitfuncs()  # among them: the folder of the app's files goes
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    leave(main())
