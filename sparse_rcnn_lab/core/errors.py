"""Errors a person can act on: what was wrong, what was found, what to do."""

from __future__ import annotations


class LabError(ValueError):
    """Bad input, explained in the terms of the person who gave it.

    The message is one or two sentences: what was wrong (naming file and field), what was found,
    what to do. Command line and app print it alone; Python shows it with the traceback.
    """
