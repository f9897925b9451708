"""The command line. Each command is a file, ``cmd_NAME.py``; torch is imported only by those.

Exit codes: 0 done, 1 done in part, 2 wrong input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from sparse_rcnn_lab import __version__
from sparse_rcnn_lab.cli import (
    cmd_analyse,
    cmd_benchmark,
    cmd_classroom,
    cmd_evaluate,
    cmd_export,
    cmd_models,
    cmd_pack,
    cmd_predict,
    cmd_trace,
    cmd_train,
)
from sparse_rcnn_lab.core.errors import LabError

_COMMANDS = (
    cmd_train,
    cmd_evaluate,
    cmd_predict,
    cmd_trace,
    cmd_analyse,
    cmd_pack,
    cmd_export,
    cmd_models,
    cmd_benchmark,
    cmd_classroom,
)

_TEXT = """\
Train, evaluate and look into Sparse R-CNN.

A first tour:
  sparse-rcnn-lab train --data shapes --preset nano --out runs/first
  sparse-rcnn-lab predict photo.jpg --model runs/first --out predictions
  sparse-rcnn-lab COMMAND --help
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands; ``arguments.run`` is the chosen one's function."""
    # argparse cannot take --debug both before and after the command; after is where people add it.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="sparse-rcnn-lab",
        description=_TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sparse-rcnn-lab {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        name = command.__name__.rpartition(".cmd_")[2]
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
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if "run" not in arguments:  # no command: say what there is
        parser.print_help()
        return 2
    try:
        with _plain_warnings():
            code: int = arguments.run(arguments)
            sys.stdout.flush()
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
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stdout = None  # else Python complains while it exits
        return 0


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints a warning as one line, without the line of code it came from."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


if __name__ == "__main__":
    sys.exit(main())
