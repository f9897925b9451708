"""Other proposals for a trained model: what of the start was learned, and what does not matter."""

from __future__ import annotations

import copy
from typing import Literal

import torch

from sparse_rcnn_lab.core.config import ProposalInit
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.proposals import initial_boxes
from sparse_rcnn_lab.detect.detector import Detector

BoxStart = Literal["learned"] | ProposalInit
FeatureStart = Literal["learned", "shuffled", "mean", "random"]


@torch.no_grad()
def with_start(
    detector: Detector,
    boxes: BoxStart = "learned",
    features: FeatureStart = "learned",
    seed: int = 0,
) -> Detector:
    """A copy of a detector whose proposals start elsewhere; all other weights are the same.

    boxes: "learned", or where training can begin: "image" (each the whole picture), "grid",
    "random".  features: "learned"; "shuffled" among the proposals; "mean", the same for all;
    "random", drawn from N(0, 1) as before training.  seed: of what is drawn.
    Raises LabError for another word.
    """
    if boxes not in ("learned", "image", "grid", "random"):
        raise LabError(f"boxes must be learned, image, grid or random, found {boxes!r}.")
    if features not in ("learned", "shuffled", "mean", "random"):
        raise LabError(f"features must be learned, shuffled, mean or random, found {features!r}.")
    model = copy.deepcopy(detector.model)
    proposals = model.proposals
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if boxes != "learned":
            proposals.boxes.copy_(initial_boxes(len(proposals), boxes))
        if features == "shuffled":
            proposals.features.copy_(proposals.features[torch.randperm(len(proposals))])
        elif features == "mean":
            proposals.features.copy_(proposals.features.mean(0).expand_as(proposals.features))
        elif features == "random":
            proposals.features.copy_(torch.randn(proposals.features.shape))
    runtime = detector.runtime.for_model(model)
    return Detector(model, detector.class_names, detector.name, detector.info, runtime)
