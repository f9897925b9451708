"""``collect``: from a folder or a learning platform's zip to nbgrader's ``submitted`` folder.

It understands ``ada/boxes.ipynb`` (also deeper), ``ada_boxes.ipynb``, Moodle's ``Ada
Lovelace_4711_assignsubmission_file_/any name.ipynb``, Canvas's ``lovelaceada_LATE_12_34_any
name.ipynb`` and Google's ``Ada Lovelace - any name.ipynb``; with a roster, anything that names a
student. The notebook itself tells which assignment it is, so a file may have any name.
"""

from __future__ import annotations

import contextlib
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.cells import (
    notebook_of,
    role_of,
    write_changed,
    write_notebook,
)
from sparse_rcnn_lab.course.classroom.course_folder import CAME, Course
from sparse_rcnn_lab.course.classroom.pages import figures_of
from sparse_rcnn_lab.course.classroom.personal import HandOuts
from sparse_rcnn_lab.course.classroom.repair_submission import recognise, repair
from sparse_rcnn_lab.course.classroom.roster import Roster, level_of_names, student_of, write_table

_NOTEBOOK = re.compile(r"\.ipynb(\.txt|\.json)?$", re.I)  # some browsers add the latter
_HIDDEN = re.compile(r"/(\.|__MACOSX)")
_REFUSED = ("student", "assignment", "file", "why")
LARGEST = 50_000_000  # bytes of a notebook with its outputs
# What reading a file, a zip's list or a part of it may raise. ValueError: an offset before the
# file's start, or a name that is not text.
_DAMAGED = (OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, zlib.error, LZMAError)


class Collected(NamedTuple):
    """The result of a collection. taken: (student, assignment, notes).  refused: (file, why)."""

    taken: list[tuple[str, str, list[str]]]
    refused: list[tuple[str, str]]


class _Entry(NamedTuple):
    """An entry of the folder or zip: its path in there, its time, how to read it.

    read: None for a link, which may lead to another student's file, or to the solutions.
    """

    path: PurePosixPath
    time: datetime
    size: int
    read: Callable[[], bytes] | None


def collect(course: Course, place: Path) -> Collected:
    """Collects every notebook in ``place``, a folder or a zip, into the course.

    Of several by one student for one assignment the newest counts; one that was collected before is
    replaced. A file that cannot be taken is reported and does not stop the others.
    Raises LabError where ``place`` cannot be read or has no notebook.
    """
    roster, names = course.roster(), course.assignments
    hand_outs = {name: HandOuts(course, name) for name in names}
    releases = {name: hand_out.release for name, hand_out in hand_outs.items()}
    entries = [entry for entry in _entries(place) if not _HIDDEN.search(f"/{entry.path}")]
    entries.sort(key=lambda entry: (entry.time, str(entry.path)))
    found = [entry for entry in entries if _NOTEBOOK.search(entry.path.name)]
    if not found:
        raise LabError(f'"{place}" has no notebook (.ipynb).')
    refused: list[tuple[PurePosixPath, str]] = []
    is_folder = {entry.path.parts[0]: len(entry.path.parts) > 1 for entry in entries}
    for name in sorted(is_folder.keys() - {entry.path.parts[0] for entry in found}):
        where = " in this folder" if is_folder[name] else ""
        print(f"nothing to take: {name}: no notebook (.ipynb){where}")
        refused.append((PurePosixPath(name, *["folder"] * is_folder[name]), "no notebook (.ipynb)"))
    result = Collected([], [])
    known: list[tuple[_Entry, Any, str, list[str]]] = []
    newest: dict[tuple[str, str], tuple[_Entry, Any, list[str]]] = {}

    @contextlib.contextmanager
    def or_refused(entry: _Entry) -> Iterator[None]:
        try:
            yield
        except LabError as error:
            result.refused.append((str(entry.path), str(error)))
            refused.append((entry.path, str(error)))
            print(f"not taken: {entry.path}: {error}")

    for entry in found:
        with or_refused(entry):
            notebook = _notebook(entry)
            known.append((entry, notebook, *recognise(notebook, releases)))
    level = level_of_names([(entry.path, name) for entry, _, name, _ in known], names)
    for entry, notebook, assignment, notes in known:
        with or_refused(entry):
            path = _as_saved(entry.path)
            person = roster.find(path, names) if roster else None
            student = person.student if person else student_of(path, names, level)
            if (student, assignment) in newest:
                notes.append(f"handed in more than once, the newest counts: {entry.path}")
            if re.match(r"[^_]+_LATE_\d", entry.path.name):
                notes.append("late, says Canvas")
            newest[student, assignment] = (entry, notebook, notes)
    for (student, assignment), (entry, notebook, notes) in sorted(newest.items()):
        if notebook["metadata"].get("sparse_rcnn_lab", {}).get("course") != course.mark:
            notes.append("made from another course's notebook, graded with this one's numbers")
        owner = hand_outs[assignment].owner(notebook, student)
        if owner != student:
            notes.append(f"is the notebook that was handed out to {owner}")
        figures = figures_of(notebook["cells"])  # kept, as grading draws them from fewer images
        notes += repair(notebook, hand_outs[assignment].of(owner))
        came = {CAME: {"notes": notes, "figures": figures}}
        notebook["metadata"] = releases[assignment]["metadata"] | came
        target = course.notebook("submitted", assignment, student)
        when = f"{entry.time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        known_time = entry.time.year >= 2000  # a zip may have no time
        # An identical earlier submission stays untouched and is not graded again.
        write_changed(target.with_name("timestamp.txt"), when if known_time else "")
        write_notebook(target, notebook)
        result.taken.append((student, assignment, notes))
        print(f"{student}: {assignment}" + "".join(f"\n    {note}" for note in notes))
    if roster:
        _keep_refused(course, roster, refused, {name for _, _, name, _ in known})
    for student in sorted(set(course.students()) - set(course.names())) if roster else ():
        print(
            f"{student}: collected before, and nobody on the roster. If it is somebody of the "
            f'class under another name, delete "{course.root / "submitted" / student}".'
        )
    return result


def _keep_refused(
    course: Course, roster: Roster, refused: list[tuple[PurePosixPath, str]], taken: set[str]
) -> None:
    """Adds to refused.csv what came from students and was not taken, by (path, why).

    The assignment is that in the path, or the one that all others are; empty where neither tells.
    """
    earlier = course.refused()
    rows = dict(earlier)
    for path, why in refused:
        with contextlib.suppress(LabError):  # it is by nobody, or by several people
            student = roster.find(_as_saved(path), course.assignments).student
            told = re.findall("|".join(course.assignments), str(path).lower())
            name = [*(taken if len(taken) == 1 else [""]), *told][-1]
            file = str(path).removesuffix("/folder")
            rows[student, name] = dict(zip(_REFUSED, (student, name, file, why), strict=True))
    came = set(course.submissions(course.assignments))
    rows = {pair: row for pair, row in rows.items() if pair not in came}
    if rows != earlier:
        write_table(course.root / "refused.csv", rows.values(), _REFUSED)


def _as_saved(path: PurePosixPath) -> PurePosixPath:
    """A notebook's path without what a browser adds to its name."""
    return path.with_name(_NOTEBOOK.sub(".ipynb", path.name))


def _entries(place: Path) -> Iterator[_Entry]:
    """Everything in ``place``."""
    if place.is_dir():
        for path in place.rglob("*"):
            about = path.lstat()  # of a link itself, whose target may not exist
            time = datetime.fromtimestamp(about.st_mtime, UTC)
            inside = PurePosixPath(path.relative_to(place).as_posix())
            if path.is_dir() and not path.is_symlink():
                inside /= "folder"  # so that it counts as one, however empty
            read = None if path.is_symlink() else path.read_bytes
            yield _Entry(inside, time, about.st_size, read)
        return
    if not zipfile.is_zipfile(place):
        raise LabError(f'"{place}" is neither a folder nor a zip file.')
    try:
        archive = zipfile.ZipFile(place)  # stays open while its entries may be read
    except _DAMAGED as error:
        raise LabError(
            f'"{place}" is damaged: its list of files cannot be read ({error}). Download it again, '
            "or give the folder that another program unpacks from it."
        ) from error
    for info in archive.infolist():
        try:
            time = datetime(*info.date_time).astimezone()  # a zip has the local time
        except ValueError:  # some platforms leave it out: month 0
            time = datetime.fromtimestamp(0, UTC)
        name, read = info.filename, partial(archive.read, info)
        if not info.flag_bits & 0x800:  # a Mac writes UTF-8 without saying so
            with contextlib.suppress(UnicodeError):
                name = name.encode("cp437").decode()
        inside = PurePosixPath(name.replace("\\", "/"))  # PowerShell writes \\
        yield _Entry(inside / "folder" if info.is_dir() else inside, time, info.file_size, read)


def _notebook(entry: _Entry) -> Any:
    """The notebook in the file, with each source as one text."""
    if any(len(part) > 255 for part in entry.path.parts):
        raise LabError("has a longer name than a file or folder can have.")
    if not entry.read:
        raise LabError("is a link to another file, which is not followed.")
    if entry.size > LARGEST:
        raise LabError(
            f"the notebook has {entry.size / 1e6:.0f} MB. Ask for one without outputs (in "
            "JupyterLab: Kernel, Restart kernel and clear outputs)."
        )
    try:
        content = entry.read()
    except _DAMAGED as error:
        raise LabError(f"cannot be read ({error}).") from error
    try:
        notebook = notebook_of(content.decode("utf-8-sig"))
        for cell in notebook["cells"]:  # each with a type, and with text for a name
            cell["cell_type"], cell["metadata"], role_of(cell).get("grade_id", "") + ""
        notebook["metadata"].get("sparse_rcnn_lab", {}).get("course")
        figures_of(notebook["cells"])  # fails where outputs are broken
        json.dumps(notebook, ensure_ascii=False).encode()  # half a character cannot be written
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LabError("is not a readable notebook. Ask for the file again.") from error
    return notebook
