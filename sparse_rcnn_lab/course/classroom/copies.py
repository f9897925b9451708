"""``copies``: pairs of submissions whose code is similar beyond names, comments, layout and order.

They are a reason to talk, never a mark. Code is parsed into a tree in which every name that the
student chose is "v"; every expression and simple statement of some size is a fingerprint. Those of
the hand-out do not count, and those that much of the class has count little.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.cells import is_locked, read_notebook
from sparse_rcnn_lab.course.classroom.course_folder import Course
from sparse_rcnn_lab.course.classroom.pages import write_page
from sparse_rcnn_lab.course.classroom.roster import write_table

SIZE = 4  # smallest number of tree nodes in a fingerprint
ALIKE = 0.8  # pairs are named if they share at least this much of the smaller one's own code
_LEAST = 12.0  # lowest common weight, as a few similar short lines say nothing
# What does not count as code (comments are gone already; only some write types).
_SILENT = ("annotation", "ctx")
# Code that is nested too deeply raises one of the last two.
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


class Pair(NamedTuple):
    """Two submissions of one assignment that are similar.

    alike: 0 to 1, the share of the smaller one's code that the other has, rare code counting more.
    others: 0 to 1, how much of the rest of the class has that code too.
    lines: for each of the two, line number from 1 -> how rare its shared code is, 0 to 1.
    """

    assignment: str
    students: tuple[str, str]
    alike: float
    others: float
    texts: tuple[str, str]
    lines: list[dict[int, float]]


def compare(assignment: str, texts: dict[str, str], known: set[str]) -> list[Pair]:
    """The pairs to look at, most similar first.

    texts: student -> code.  known: fingerprints that do not count, as those of the hand-out.
    """
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
        others = 1 - sum(rare.values()) / len(rare)
        by_rarity = sorted(rare, key=lambda f: rare[f])  # of a line the rarest is last, and stays
        lines = [{n: rare[f] for f in by_rarity for n in prints[who][f]} for who in (a, b)]
        sides = (texts[a], texts[b])
        pairs.append(Pair(assignment, (a, b), in_common / smaller, others, sides, lines))
    return sorted(pairs, key=lambda pair: -pair.alike)


def code_of(notebook: Path) -> str:
    """What a student may have written in a notebook: all code except that of locked cells."""
    cells = [c for c in read_notebook(notebook)["cells"] if c["cell_type"] == "code"]
    return "\n\n".join(cell["source"].strip("\n") for cell in cells if not is_locked(cell)) + "\n"


def fingerprints(code: str) -> dict[str, set[int]]:
    """Parts of the tree -> the lines they are in; what Python cannot parse is left out."""
    found: dict[str, set[int]] = {}
    nodes: list[Any] = [node for tree in _trees(code) for node in ast.walk(tree)]
    named = set(_named(nodes))
    imported = {n.asname: n.name for n in nodes if isinstance(n, ast.alias) and n.asname}
    for node in nodes:
        for field in _SILENT:
            if hasattr(node, field):
                setattr(node, field, None)
        if isinstance(node, ast.Name):
            node.id = "v" if node.id in named else imported.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = "v"
    for node in nodes:
        plain = isinstance(node, ast.stmt) and not hasattr(node, "body")
        size = len(list(itertools.islice(ast.walk(node), SIZE)))
        if (plain or isinstance(node, ast.expr)) and size == SIZE:
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            with contextlib.suppress(RecursionError):
                found.setdefault(ast.dump(node), set()).update(lines)
    return found


def _trees(code: str) -> Iterator[ast.AST]:
    """The code as trees; a mistake costs only the block it is in. Line numbers stay the same."""
    without_magics = re.sub(r"^[ \t]*[%!].*$", "", code, flags=re.M)
    for text in (code, without_magics):  # a line of a formula may begin with % too
        with contextlib.suppress(*_UNREADABLE):
            yield ast.parse(text)
            return
    starts = [m.start() for m in re.finditer(r"^(?=[^\s)\]}#])", without_magics, re.M)]
    for start, end in itertools.pairwise([*starts, len(without_magics)]):
        try:
            tree = ast.parse(without_magics[start:end])
        except _UNREADABLE:
            continue
        yield ast.increment_lineno(tree, without_magics.count("\n", 0, start))


def _named(nodes: list[Any]) -> Iterator[str]:
    """Names that the code itself gives."""
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def write_copies(course: Course, assignments: tuple[str, ...]) -> list[Pair]:
    """Writes copies.csv, one row per pair, and copies.html with both side by side.

    Raises LabError where nothing was handed in.
    """
    if not course.submissions(assignments):
        raise LabError(f'There is nothing to compare in "{course.root}": collect first.')
    pairs = []
    for name in assignments:
        handed_out = fingerprints(code_of(course.notebook("release", name)))
        came = [student for student, _ in course.submissions((name,))]
        texts = {who: code_of(course.notebook("submitted", name, who)) for who in came}
        pairs += compare(name, texts, set(handed_out))
    columns = ("assignment", "student", "other", "alike_percent", "others_have_percent")
    rows = [(p.assignment, *p.students, round(100 * p.alike), round(100 * p.others)) for p in pairs]
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    write_table(course.root / "copies.csv", table, columns)
    page, names = course.root / "copies.html", course.names()
    write_page(page, "copies.html.j2", pairs=pairs, names=names, students=len(course.students()))
    return pairs
