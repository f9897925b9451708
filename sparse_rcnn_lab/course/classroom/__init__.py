"""Assignments that grade themselves, with nbgrader. ``docs/classroom.md`` is the teacher's guide.

What a student's notebook imports, which needs Jupyter alone:

- ``checks``: what every test cell calls; ``reference_solutions``: what it compares with
- ``practice``: parts of a stage, data and a training; ``validate``: a look before handing in

What a teacher runs, which needs the ``classroom`` extra, in the order of a course:

- ``build`` (numbers of the year from ``vary``) -> ``course_folder``, one folder a course
- ``collect`` (whose it is says ``roster``) -> ``repair_submission`` -> ``grade`` (each notebook by
  ``execution``) -> ``marks``, ``by_hand``
- ``personal``: numbers of their own for the students of a roster; ``copies``: whose code is alike
- ``feedback`` (``questions.toml``) and ``slides`` write html, by ``pages`` and its ``templates``

May import any room but ``app`` and ``cli``.
"""

import sys
from contextlib import suppress
from importlib import import_module

_GRAMMAR = "rfc3987_syntax"
if _GRAMMAR not in sys.modules:
    # Where this is installed, jsonschema, which nbformat needs, reads the grammar of international
    # addresses with it: two seconds in every process, though no notebook is checked for such.
    sys.modules[_GRAMMAR] = None  # type: ignore[assignment]  # as if it were not there
    with suppress(ImportError):
        import_module("jsonschema")
    del sys.modules[_GRAMMAR]
