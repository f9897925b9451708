"""``copies``: pairs of submissions whose code is alike beyond names, comments, layout and order.

A hint for a talk, never a mark. Code is read as Python reads it: each statement becomes a row of
tokens in which whatever the student named is "v"; every run of so many tokens is a fingerprint.
What the hand-out brought counts for nothing, what much of the class has for little.

copies.csv          a row a pair: how much is alike, and how much of it others have too
copies.html         the same pairs with both sides beside each other; one file, for a browser
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.cells import is_locked, read_cells, text_of
from sparse_rcnn_lab.course.classroom.course_folder import Course
from sparse_rcnn_lab.course.classroom.pages import write_page
from sparse_rcnn_lab.course.classroom.roster import write_table

RUN = 6  # tokens of a fingerprint
ALIKE = 0.8  # of what the smaller of two has on its own; pairs from here on are named
_LEAST = 12.0  # weight in common: a few short lines that are alike say nothing
# What a reader would not call code: comments are gone already, types are written by some.
_SILENT = ("annotation", "returns", "type_comment", "type_params", "ctx")


@dataclass(frozen=True)
class Pair:
    """Two submissions of one assignment that are alike.

    alike: 0 to 1, the share of the smaller one's code that the other has, rare code counting more.
    others: 0 to 1, how much of the rest of the class has that code too.
    lines: of each of the two, line -> how rare what it shares is, 0 to 1.
    """

    assignment: str
    students: tuple[str, str]
    alike: float
    others: float
    texts: tuple[str, str]
    lines: tuple[dict[int, float], dict[int, float]]


def find_copies(course: Course, assignment: str) -> list[Pair]:
    """The pairs to look at, the most alike first; of all that was handed in."""
    handed_out = fingerprints(code_of(course.notebook("release", assignment)))
    texts = {
        student: code_of(course.notebook("submitted", assignment, student))
        for student, _ in course.submissions((assignment,))
    }
    return compare(assignment, texts, set(handed_out))


def compare(assignment: str, texts: dict[str, str], known: set[Any]) -> list[Pair]:
    """:func:`find_copies` for code by student; known: fingerprints that count for nothing."""
    prints = {student: fingerprints(text) for student, text in texts.items()}
    own = {student: found.keys() - known for student, found in prints.items()}
    having = Counter(itertools.chain.from_iterable(own.values()))
    weight = {f: math.log((len(own) + 1) / count) for f, count in having.items()}
    total = {student: sum(weight[f] for f in found) for student, found in own.items()}
    pairs = []
    for a, b in itertools.combinations(sorted(own), 2):
        shared = own[a] & own[b]
        in_common = sum(weight[f] for f in shared)
        smaller = min(total[a], total[b])
        if in_common < _LEAST or in_common < ALIKE * smaller:
            continue
        rest = max(len(own) - 2, 1)
        rare = {f: 1 - (having[f] - 2) / rest for f in shared}
        pairs.append(
            Pair(
                assignment,
                (a, b),
                in_common / smaller,
                1 - sum(rare.values()) / len(rare),
                (texts[a], texts[b]),
                (_lines(prints[a], rare), _lines(prints[b], rare)),
            )
        )
    return sorted(pairs, key=lambda pair: -pair.alike)


def code_of(notebook: Path) -> str:
    """What a student may have written in a notebook: all code but that of locked cells."""
    cells = [c for c in read_cells(notebook) if c["cell_type"] == "code"]
    return "\n\n".join(text_of(cell).strip("\n") for cell in cells if not is_locked(cell)) + "\n"


def fingerprints(code: str) -> dict[Any, set[int]]:
    """Runs of tokens -> the lines they stand in; what Python cannot read is left out."""
    found: dict[Any, set[int]] = {}
    trees = list(_trees(re.sub(r"^[ \t]*[%!].*$", "", code, flags=re.M)))
    named = {name for tree in trees for name in _named(tree)}
    for tree in trees:
        for statement in ast.walk(tree):
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_text or not isinstance(statement, ast.stmt):
                continue
            tokens = list(_tokens(statement, named))
            for start in range(max(len(tokens) - RUN, 0) + 1):
                run = tokens[start : start + RUN]
                lines = found.setdefault(tuple(token for token, _ in run), set())
                lines.update(line for _, line in run)
    return found


def _trees(code: str) -> Iterator[ast.AST]:
    """The code as trees; a mistake costs the block it stands in alone. Lines stay those of code."""
    try:
        yield ast.parse(code)
        return
    except (SyntaxError, ValueError):
        pass
    starts = [m.start() for m in re.finditer(r"^(?=[^\s)\]}#])", code, re.M)]
    for start, end in itertools.pairwise([*starts, len(code)]):
        try:
            tree = ast.parse(code[start:end])
        except (SyntaxError, ValueError):
            continue
        yield ast.increment_lineno(tree, code.count("\n", 0, start))


def _named(tree: ast.AST) -> Iterator[str]:
    """Names that the code itself gives."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name


def _tokens(node: ast.AST, named: set[str], line: int = 0) -> Iterator[tuple[str, int]]:
    """(token, line) of a statement without the statements in it."""
    line = getattr(node, "lineno", line)
    if isinstance(node, ast.Name):
        yield ("v" if node.id in named else node.id), line
        return
    if isinstance(node, ast.Constant):
        yield repr(node.value), line
        return
    yield type(node).__name__, line
    for name in ("attr", "arg") if isinstance(node, ast.Attribute | ast.keyword) else ():
        if value := getattr(node, name, None):
            yield value, line
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for child in children if field not in _SILENT else ():
            if isinstance(child, ast.AST) and not isinstance(child, ast.stmt):
                yield from _tokens(child, named, line)


def _lines(prints: dict[Any, set[int]], rare: dict[Any, float]) -> dict[int, float]:
    """Line -> the rarest that it shares."""
    lines: dict[int, float] = {}
    for found, value in rare.items():
        for line in prints[found]:
            lines[line] = max(lines.get(line, 0.0), value)
    return lines


def write_copies(course: Course, assignments: tuple[str, ...]) -> list[Pair]:
    """Writes copies.csv and copies.html. Raises LabError where nothing was handed in."""
    if not course.submissions(assignments):
        raise LabError(f'There is nothing to compare in "{course.root}": collect first.')
    pairs = [pair for name in assignments for pair in find_copies(course, name)]
    columns = ("assignment", "student", "other", "alike_percent", "others_have_percent")
    rows = [(p.assignment, *p.students, round(100 * p.alike), round(100 * p.others)) for p in pairs]
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    write_table(course.root / "copies.csv", table, columns)
    names = course.names()
    write_page(
        course.root / "copies.html",
        "copies.html.j2",
        pairs=[(pair, _sides(pair, names)) for pair in pairs],
        students=len(course.students()),
    )
    return pairs


def _sides(pair: Pair, names: dict[str, str]) -> list[dict[str, Any]]:
    """Each student's code as (line, strength of its colour in per cent)."""
    sides = []
    for student, text, lines in zip(pair.students, pair.texts, pair.lines, strict=True):
        rows = [
            (line, round(45 * lines.get(number, 0.0)))
            for number, line in enumerate(text.splitlines(), start=1)
        ]
        sides.append({"name": names.get(student, student), "rows": rows})
    return sides
