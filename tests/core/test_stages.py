"""A stage that is asked for: everybody takes the same ones, and refuses the others alike."""

from typing import Any

import numpy as np
import pytest
import torch
from small_model import small_model

from sparse_rcnn_lab import Detector, LabError, Shapes, analysis, evaluate, export
from sparse_rcnn_lab.core.errors import check_stage, check_stages
from sparse_rcnn_lab.course import lessons
from sparse_rcnn_lab.views.feature_similarity import proposal_similarity
from sparse_rcnn_lab.views.measures import describe, roi_grid
from sparse_rcnn_lab.views.style import stage_color

IMAGE = torch.zeros(3, 64, 64, dtype=torch.uint8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(small_model(), ("a", "b", "c"), "small", {})


# The first stage that each takes: 0 where the learned proposals count too.
FIRST = {
    **dict.fromkeys(("detector", "walk", "export", "trace", "roi_grid"), 1),
    **dict.fromkeys(("describe", "color", "similarity"), 0),
}


@pytest.mark.parametrize("ask", FIRST)
@pytest.mark.parametrize("beyond", [-1, 5, 1.5])
def test_a_stage_that_is_not_there(detector, ask, beyond):
    """Catches an entrance that takes another stage's answer, fails with a traceback, or goes on."""
    trace, first = detector.trace(IMAGE), FIRST[ask]
    stage: Any = first - 1 if beyond < 0 else beyond
    asked = {
        "detector": lambda: detector(IMAGE, stage=stage),
        "walk": lambda: lessons.StageWalk(detector, IMAGE, stage),
        "export": lambda: export(detector, "never.pt2", stage=stage),
        "trace": lambda: trace.detections(stage),
        "roi_grid": lambda: roi_grid(trace, 0, stage),
        "describe": lambda: describe(trace, 0, stage),
        "color": lambda: stage_color(stage, 4),
        "similarity": lambda: proposal_similarity(trace, stage),
    }
    with pytest.raises(LabError, match=rf"^stage must be {first}\.\.4, found {stage}\.$"):
        asked[ask]()


@pytest.mark.parametrize("stages", [[0, 4], [5], [], [2.5]])
def test_stages_that_are_not_there(detector, stages):
    """Catches an empty list or half a stage that an evaluation or an experiment makes up."""
    data = Shapes(1)
    for ask in (evaluate, analysis.ap_curve, analysis.ablation_costs):
        with pytest.raises(LabError, match=r"^stages must be 1\.\.4, found \["):
            ask(detector, data, stages=stages, progress=False)


def test_stages_of_all_kinds():
    """Catches an order, a double or a number of numpy's or torch's that counts for something."""
    assert check_stages(None, 3) == (1, 2, 3)
    assert check_stages(np.array([3, 1, 3]), 3) == (1, 3) and check_stages(2, 3) == (2,)
    assert check_stage(torch.tensor(2), 3) == 2 and check_stage(0, 3, 0) == 0
    with pytest.raises(LabError, match="but there is one stage"):
        check_stage(2, 1, 2)
