"""Assignments that grade themselves, with nbgrader: build, collect, grade, feedback.

``docs/classroom.md`` is the instructor's guide. What student notebooks import (``checks``,
``practice``) needs the package alone; the teacher's side needs the ``classroom`` extra.
"""
