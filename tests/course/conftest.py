"""A built course for the tests of the classroom."""

from __future__ import annotations

from pathlib import Path

import classroom_class as made
import pytest

from sparse_rcnn_lab.course.classroom.course_folder import Course, chosen


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A course with one assignment; not to be changed: that takes :func:`copy_of`."""
    pytest.importorskip("jupytext", reason="needs the classroom extra: jupytext")
    pytest.importorskip("nbgrader", reason="needs the classroom extra: nbgrader")
    from sparse_rcnn_lab.course.classroom.build import build

    folder = tmp_path_factory.mktemp("built") / "course"
    return build(folder, made.SOURCES, chosen(["boxes"]), "2026", say=lambda s: None)


@pytest.fixture
def small_course(built: Course, tmp_path: Path) -> Course:
    return made.copy_of(built, tmp_path / "small-course")
