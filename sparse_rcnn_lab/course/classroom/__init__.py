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
