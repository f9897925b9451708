"""Who is in the class and who made a file, from names in paths and a school's class list.

A roster is the csv that Moodle, Canvas or Google Classroom exports, or any table with a column
of names. Its other columns (ids, e-mail addresses) also identify people and are returned with the
marks.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.files import FORMULA, no_formula, write_text

# Headings in lower case, in the systems' English, German, French and Spanish.
_WHOLE = ("name", "full name", "student", "student name", "fullname", "vollständiger name")
_FIRST = ("first name", "firstname", "first", "given name", "vorname", "prénom", "nombre")
_LAST = (
    *("last name", "lastname", "surname", "last", "family name"),
    *("nachname", "nom", "apellido(s)"),
)
IDS = (
    *("id", "id number", "student id", "user id", "identifier", "username", "login"),
    *("sis user id", "sis login id", "email", "email address", "e-mail", "e-mail-adresse"),
    *("matrikelnummer", "id-nummer", "anmeldename"),
)
# Words in names of folders and files that are not a person's name.
_NO_NAME = {
    *("a", "and", "assignment", "assignments", "attempt", "by", "class", "colab", "copy", "course"),
    *("desktop", "downloads", "draft", "files", "final", "fixed", "folder", "for", "from", "group"),
    *("handed", "handin", "homework", "in", "lab", "late", "my", "new", "notebook", "notebooks"),
    *("of", "part", "resubmission", "section", "solution", "src", "submission", "submissions"),
    *("submitted", "task", "team", "the", "try", "untitled", "v", "version", "week", "work"),
}
_MOODLE = re.compile(r"(.+)_(\d+)_assignsubmission_")
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.I)
_CANVAS = re.compile(r"([^_]+)_(?:LATE_)?(\d+)_\d+_")


class Person(NamedTuple):
    """A person in the class. student: the name for folders.  name: as in the roster.

    row: the roster's row, heading -> value.
    """

    student: str
    name: str
    row: dict[str, str]

    @property
    def shown(self) -> str:
        """The name, for a namesake with the id that tells them apart."""
        own = self.student.removeprefix(plain(self.name)).strip("-")
        return f"{self.name} ({own})" if own else self.name


class Roster(NamedTuple):
    """The list of a class, with ``people`` in its order."""

    columns: list[str]
    people: list[Person]

    @classmethod
    def read(cls, path: Path) -> Roster:
        """Reads a roster. Raises LabError, saying what was found, where it has no names."""
        columns, rows = read_table(path)
        named = [(_full_name(row), row) for _, row in rows]
        no_names = ("", "points possible", "test student")  # rows that Canvas adds
        named = [(name, row) for name, row in named if name.lower() not in no_names]
        if not named:
            raise LabError(
                f'"{path}" has no column of names (found: {", ".join(columns)}). It needs "name", '
                'or "first name" and "last name", in its first line.'
            )
        count = Counter(plain(name) for name, _ in named)
        having = Counter(one for _, row in named for one in _ids(row))
        people = []
        for number, (name, row) in enumerate(named, 1):
            student = plain(name)
            if count[student] > 1:  # namesakes
                own = (one for one in _ids(row) if having[one] == 1)
                student += "-" + plain(min(own, default=str(number)))
            people.append(Person(student, name, row))
        return cls(columns, people)

    def find(self, path: PurePosixPath, assignments: tuple[str, ...] = ()) -> Person:
        """The person whose file it is, by a folder, the innermost first, or by its own name.

        Part of a name is enough where nothing else is beside it: "Ada", but not "Ada Hopper".
        Raises LabError where it fits nobody in the class, or several people.
        """
        others = {word for name in assignments for word in _words(name)}
        candidates = self.people
        for part in (*reversed(path.parts[:-1]), path.stem):
            found = [person for person in self._named(part, others) if person in candidates]
            if len(found) == 1:
                return found[0]
            candidates = found or candidates
        if candidates is not self.people:
            who = " or ".join(f'"{person.student}"' for person in candidates)
            raise LabError(f"may be by {who}. Put it into a folder of that name.")
        names = {person.name.lower(): person.name for person in self.people}
        parts = [_unnumbered(part).lower() for part in path.parts]
        near = [n for part in parts for n in difflib.get_close_matches(part, names, 1, 0.75)]
        hint = f' The nearest name is "{names[near[0]]}".' if near else ""
        raise LabError(
            f"is by nobody on the roster.{hint} Put it into a folder of the student's name, or add "
            "the student to roster.csv."
        )

    def _named(self, part: str, assignments: set[str]) -> list[Person]:
        """The people that a folder or file may be named after, by the best kind of match only."""
        moodle, canvas = _MOODLE.match(part), _CANVAS.match(part)
        known = moodle or canvas
        # Moodle's number is only that of its worksheet.
        number = known and (f"participant {known[2]}" if moodle else known[2])
        words = _words(known[1] if known else part)
        rest, text = set(words) - _NO_NAME - assignments, _spaced(part)

        def is_named(one: str) -> bool:
            # Short numbers are those of copies and weeks, except where a platform writes an id.
            return one == number if known else len(one) > 3 and _spaced(one) in text

        def rank(person: Person) -> tuple[int, ...]:
            names = _words(person.name)
            initials = {name[0] for name in names}
            # Canvas has the last name first, which may be several words.
            joined = {"".join(names[i:] + names[:i]) for i in range(len(names))}
            has_id = any(map(is_named, {*_ids(person.row), person.student.casefold()}))
            whole = set(names) <= set(words) or not joined.isdisjoint({*words, "".join(words)})
            some = rest <= {*names, *initials} and any(len(w) > 1 for w in rest.intersection(names))
            sure = (has_id and (whole or some), has_id and not known, whole * len(names))
            return *sure, some, has_id

        ranks = [rank(person) for person in self.people]
        return [p for p, r in zip(self.people, ranks, strict=True) if any(r) and r == max(ranks)]


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a csv file, and (line, row) of each row, from any spreadsheet program.

    Raises LabError, naming the line, rather than leaving something out.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabError(
            f'"{path}" is not UTF-8 text, so names and comments would be lost. Save it again as '
            '"CSV UTF-8".'
        ) from error
    except OSError as error:
        raise LabError(f'"{path}" cannot be read ({error.strerror}).') from error
    head = text.partition("\n")[0]
    # The separator of spreadsheet programs where numbers have a decimal comma.
    mark = ";" if head.count(";") > head.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, restval="")
    rows = []
    try:
        for row in reader:
            if any(row.pop(None, ())):  # values without a column
                raise LabError(
                    f'"{path}", line {reader.line_num}: there are more values than columns. Put a '
                    'comment or number with a comma into quotes ("...").'
                )
            row = {str(key): _as_meant(value.strip()) for key, value in row.items()}
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise LabError(f'"{path}", line {reader.line_num}: not a table ({error}).') from error
    return list(reader.fieldnames or ()), rows


def _as_meant(value: str) -> str:
    """The value without the ' that :func:`write_table` put before it."""
    return value[1:] if value.startswith("'") and FORMULA.match(value, 1) else value


def write_table(
    path: Path,
    rows: Iterable[dict[str, Any]],
    columns: Sequence[str] = (),
    *,
    as_given: bool = False,
    mark: bool = False,
) -> None:
    """Writes a csv file, whole or not at all; values without a column are left out.

    What a spreadsheet program would take for a formula gets a ' before it: an answer that begins
    with "- ", or a malicious one.

    as_given: no ', for a school's system, which gets its own values back.  mark: begin with the
    byte order mark of UTF-8, without which Excel reads Zoë as ZoÃ«, and would save it like that.
    """
    rows, text = list(rows), io.StringIO()
    columns = columns or (list(rows[0]) if rows else ["student"])
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    if not as_given:
        rows = [{key: no_formula(value) for key, value in row.items()} for row in rows]
    writer.writerows(rows)
    write_text(path, "\ufeff" * mark + text.getvalue())


def number(value: float | None) -> str:
    """A number as tables show it; None is empty."""
    return "" if value is None else f"{value:g}"


def student_of(path: PurePosixPath, assignments: tuple[str, ...], level: int = -1) -> str:
    """Who submitted the file, from its path alone; letters, digits, ``-`` and ``.`` remain.

    level: which folder has the student's name, as from :func:`level_of_names`.
    """
    if moodle := [found for part in path.parts if (found := _MOODLE.match(part))]:
        return plain(f"{moodle[-1][1]}_{moodle[-1][2]}")
    if folders := folders_of(path, assignments):
        return plain(folders[level])
    if canvas := _CANVAS.match(path.name):
        return plain(canvas[1])
    # The rest without the assignment's name and the number of a copy: "boxes_ada (1)".
    words = [word for word in re.split(r"[\s_-]+", _unnumbered(path.stem)) if word]
    name = " ".join(word for word in words if word.lower() not in assignments)
    if not name or not _may_be_name(name, _NO_NAME):
        raise LabError("does not say who made it. Put it into a folder of the student's name.")
    return plain(name)


def folders_of(path: PurePosixPath, assignments: tuple[str, ...]) -> list[str]:
    """The folders around a notebook that may have a student's name, outermost first."""
    no_names = _NO_NAME | set(assignments)
    return [folder for folder in path.parts[:-1] if _may_be_name(folder, no_names)]


def _may_be_name(text: str, no_names: set[str]) -> bool:
    found = {word for word in _words(text) if len(word) > 1}
    return not found or not found <= no_names


def level_of_names(found: list[tuple[PurePosixPath, str]], assignments: tuple[str, ...]) -> int:
    """Which level of nested folders has the students' names, from (path, assignment) of a class.

    It is the outer one, as in ``ada/second/boxes.ipynb``, unless a student then has an assignment
    twice.
    """
    folders = [(folders_of(path, assignments), assignment) for path, assignment in found]
    outer = [(names[0], assignment) for names, assignment in folders if len(names) > 1]
    return 0 if len(set(outer)) == len(outer) else -1


def plain(name: str) -> str:
    """A name in a form for folders."""
    text = unicodedata.normalize("NFC", name.strip())  # an ë is one character, from a Mac too
    text = re.sub(r"[^\w.-]+", "-", text).strip("-.").replace("_", "-")
    if not text:
        raise LabError(f'says it is by "{name}", which is no name.')
    if len(text.encode()) > 250:
        raise LabError(f'says it is by "{name[:40]} …", which is too long for a folder.')
    # "Con", short for Connor, is a device on Windows, which allows no folder with that name.
    return f"{text}-" if _DEVICE.fullmatch(text) else text


def _full_name(row: dict[str, str]) -> str:
    """ "Ada Lovelace", whatever the columns are."""
    row = {heading.strip().lower(): value for heading, value in row.items()}
    first, last, name = (
        next((row[key] for key in keys if row.get(key)), "") for keys in (_FIRST, _LAST, _WHOLE)
    )
    if first or last:
        return f"{first} {last}".strip()
    before, comma, after = name.partition(",")
    return f"{after.strip()} {before.strip()}" if comma else name  # Canvas: "Lovelace, Ada"


def _ids(row: dict[str, str]) -> set[str]:
    """What identifies a person besides the name: ids, addresses, and the part before their @."""
    values = {v.casefold() for k, v in row.items() if k.strip().lower() in IDS}
    return {part for value in values for part in (value, value.partition("@")[0]) if part}


def _spaced(text: str) -> str:
    """A file's name with spaces around its parts, so that no part of a longer word is matched."""
    return re.sub(r"[\s_()]+", " ", f" {text.casefold()} ")


def _words(text: str) -> list[str]:
    """The words of a text in lower case, without accents and punctuation."""
    letters = unicodedata.normalize("NFKD", text.replace("ß", "ss")).casefold()
    letters = "".join(c for c in letters if not unicodedata.combining(c))
    return re.findall(r"[^\W\d_]+", letters.replace("'", "").replace("’", ""))


def _unnumbered(name: str) -> str:
    """A name without what a system adds to a copy: "Copy of boxes (1)" -> "boxes"."""
    name = re.sub(r"^(copy of|kopie von|copia de|copie de)\s+", "", name, flags=re.I)
    name = re.sub(r"(?<=.)\s*-?\s*(copy|kopie)\b", "", name, flags=re.I)
    return re.sub(r"[\s_-]*(\(\d{1,2}\)|(?<![^\s_-])\d{1,2})(?=$|[\s_-])", "", name).strip(" _-")
