"""Cross-stage readout: each stage's features are read with the heads of every stage (as the logit
lens reads a language model's layers).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Unpack

from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, RunOptions
from sparse_rcnn_lab.analysis.experiments.variants import Found, StageInputs, tabulate
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.stage import Stage, StageOutput
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

READINGS = ("both", "class", "box")
MEANING = {
    "features": "stage whose features are read, after it has worked on them",
    "heads": "stage whose heads read them",
    "reading": "class: the class is read with these heads, the box with the stage's own; box: "
    "the box with these, the class with its own; both: both",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
}


def cross_stage_readout(
    detector: Detector, data: DetectionData, **options: Unpack[RunOptions]
) -> Table:
    """AP of each stage's features, read with each stage's heads: three S x S tables in one.

    Boxes are decoded from those that entered the stage whose features are read, the boxes that it
    pooled; so features s with heads s is that stage's own output. Nothing is trained.
    options: :class:`RunOptions`. Raises LabError when data and detector have different classes.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(1)
    >>> table = cross_stage_readout(detector, data, cache=False, progress=False)
    >>> table[table.reading == "both"].pivot(index="features", columns="heads", values="AP").shape
    (6, 6)
    """
    run = CachedRun("cross_stage_readout", detector, data, {}, **options)
    stages = range(1, detector.num_stages + 1)

    def rows(found: Found) -> Iterable[dict[str, Any]]:
        return (
            {"features": s, "heads": t, "reading": reading}
            | found.ap(f"{'both' if s == t else reading} {s} {t}")
            for reading in READINGS
            for s in stages
            for t in stages
        )

    return tabulate(run, [_read], "features of a stage read with heads of another", MEANING, rows)


def _read(images: StageInputs) -> dict[str, StageOutput]:
    """Outputs by reading, stage of the features and stage of the heads: ``class 2 5``."""
    own = images.run()
    found: dict[str, StageOutput] = {}
    for s, output in enumerate(own, 1):
        entered = images.boxes if s == 1 else own[s - 2].boxes
        for t, stage in enumerate(images.runtime.model.stages, 1):
            if s == t:
                found[f"both {s} {t}"] = output
                continue
            assert isinstance(stage, Stage)
            logits = stage.classify(stage.cls_tower(output.features))
            deltas = stage.regress(stage.reg_tower(output.features)).float()
            moved = box_ops.decode_deltas(entered, deltas)
            found[f"both {s} {t}"] = replace(output, logits=logits, boxes=moved)
            found[f"class {s} {t}"] = replace(output, logits=logits)
            found[f"box {s} {t}"] = replace(output, boxes=moved)
    return found
