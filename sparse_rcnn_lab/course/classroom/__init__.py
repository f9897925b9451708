"""Autograded assignments, with nbgrader. ``docs/classroom.md`` is the teacher's guide.

These are imported by a student's notebook and need only Jupyter:

- ``checks``: what every test cell calls; ``reference_solutions``: what it compares with
- ``practice``: parts of a stage, data and a training; ``validate``: a check before submitting

These are run by a teacher, in the order of a course, and need the extra ``classroom``:

- ``build`` (this year's numbers from ``vary``) -> ``course_folder``, one folder per course
- ``collect`` (authors found by ``roster``) -> ``repair_submission`` -> ``grade`` (each notebook run
  by ``execution``) -> ``marks``, ``by_hand``
- ``personal``: each student's own numbers, with a roster; ``copies``: whose code is similar
- ``feedback`` (``questions.toml``) and ``slides`` write html with ``pages`` and its ``templates``

This room may import every other one except ``app`` and ``cli``.
"""

import sys
from contextlib import suppress
from importlib import import_module

_GRAMMAR = "rfc3987_syntax"
if _GRAMMAR not in sys.modules:
    # Where this is installed, jsonschema, which nbformat needs, uses it to read the grammar of
    # international addresses: two seconds in every process, although no notebook needs it.
    sys.modules[_GRAMMAR] = None  # type: ignore[assignment]  # as if it were not installed
    with suppress(ImportError):
        import_module("jsonschema")
    del sys.modules[_GRAMMAR]
