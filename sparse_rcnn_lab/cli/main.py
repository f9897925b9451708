"""The command line. Each command is a file ``cmd_NAME.py``; only these import torch.

Exit codes: 0 done, 1 partly done, 2 wrong input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.cli.common import replace_unprintable
from sparse_rcnn_lab.core.errors import LabError

_COMMANDS = (
    *("check", "teach", "train", "evaluate", "predict", "trace", "analyse"),
    *("pack", "export", "playground", "models", "benchmark", "classroom"),
)

_TEXT = """\
Train, evaluate and examine Sparse R-CNN.

A first tour:
  sparse-rcnn-lab train --data shapes --preset nano --out runs/first
  sparse-rcnn-lab predict photo.jpg --model runs/first --out predictions
  sparse-rcnn-lab COMMAND --help
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands; it sets ``arguments.run`` to the chosen command's function."""
    # argparse cannot take --debug both before and after the command; people add it after.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="sparse-rcnn-lab",
        description=_TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sparse-rcnn-lab {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in _COMMANDS:
        command = import_module(f"sparse_rcnn_lab.cli.cmd_{name}")
        summary, _, example = command.HELP.partition("\n")
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=example.strip("\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. ``argv`` defaults to the process's arguments."""
    replace_unprintable()
    try:
        parser = build_parser()
        arguments = parser.parse_args(argv)
        if "run" not in arguments:  # no command was given
            parser.print_help()
            return 2
        return _run(arguments)
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:  # the reader, for example `head`, has closed the pipe
            sys.stdout = None  # else Python reports an error while it exits


def _run(arguments: argparse.Namespace) -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code: int = arguments.run(arguments)
            return code
    except LabError as error:
        if arguments.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        if arguments.debug or error.filename is None:
            raise
        reason = error.strerror or error  # an HTTPError has no strerror
        print(f'error: "{error.filename}" cannot be used: {reason}.', file=sys.stderr)
        return 2


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Prints a warning in one line, without the line of code that it came from."""
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
