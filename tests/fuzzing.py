"""Damage for files: bytes that change, fields that turn into something else."""

import copy
import json
import os
import struct
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# Cases of each test; SPARSE_RCNN_LAB_FUZZ=20000 for a long search.
CASES = int(os.environ.get("SPARSE_RCNN_LAB_FUZZ", "50"))
many = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize=CASES <= 1000,  # CI finds the same each time
    suppress_health_check=list(HealthCheck),
)

_WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 7, 2**31, 2**63, 2**70, 10**400, 0.5, 1e308, -1e308, 1e-320]),
    st.floats(),
    st.sampled_from(["", "x", "nan", "1", "\0", "../../etc/passwd", "/etc/passwd", "\ud800", "🂡"]),
    st.sampled_from([[], {}, [[]], [None], {"": None}, [1, 2, 3, 4], ["a"] * 3]),
)


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values inside a json document; not to the document itself."""
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in inside:
        found.append((*at, key))
        if isinstance(value, dict | list):
            found += places(value, (*at, key))
    return found


@st.composite
def changed_fields(draw: st.DrawFn, document: Any) -> Any:
    """The document with one to three of its values taken out, or turned into something else."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        here = places(changed)
        if not here:
            break
        *way, last = draw(st.sampled_from(here))
        parent = changed
        for key in way:
            parent = parent[key]
        if draw(st.integers(0, 4)) == 0:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(draw(_WRONG))  # the next change may be inside it
    return changed


@st.composite
def changed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with one to four places overwritten, left out, doubled or cut off."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        # Headers are where a reader can be led astray; half of the damage goes there.
        most = max(0, len(changed) - 1)
        at = draw(st.integers(0, most) | st.integers(0, min(most, 300)))
        kind = draw(st.sampled_from(["write", "cut", "insert", "end"]))
        if kind == "write":
            new = draw(st.binary(min_size=1, max_size=8))
            changed[at : at + len(new)] = new
        elif kind == "cut":
            del changed[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            changed[at:at] = draw(st.binary(min_size=1, max_size=64))
        else:
            del changed[at:]
    return bytes(changed)


def parts_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """A safetensors file's header and its tensors' bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: Any, tensors: bytes) -> bytes:
    """A safetensors file of this header, whatever it says."""
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + tensors
