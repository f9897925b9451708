"""The five published models at their real size: half a gigabyte each is made, sent, hashed,
converted and compared (``pytest -m slow tests/endurance/test_released_files.py``).
"""

import pytest
import torch
from parity import rule
from test_weights import META, PUBLISHED, packed, publish, server, shapes  # noqa: F401

from sparse_rcnn_lab import RECIPES, Detector, load
from sparse_rcnn_lab.models import layouts

pytestmark = pytest.mark.slow


def whole_weights(name: str) -> dict[str, torch.Tensor]:
    """The rule's weights in mmdetection's layout."""
    return {key: torch.from_numpy(rule.tensor(key, shape)) for key, shape in shapes(name).items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_whole_files(name, publish):  # noqa: F811
    """Catches any number that changes on the way, and, with it, any output of the model."""
    state = whole_weights(name)
    publish(packed({"meta": META, "state_dict": state}), name)
    detector = load(name)
    assert detector.config == RECIPES[name].model
    ours = detector.model.state_dict()
    theirs = layouts.rename(state, "mmdetection")
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    if name in ("r50_1x_100", "r50_3x_300"):
        check_outputs(detector)


def check_outputs(detector: Detector) -> None:
    """Every stage against mmdetection's answer to the two images; limits as in test_parity."""
    reference = rule.read_arrays(f"forward_r50_{detector.num_proposals}")
    batch = detector.prepare([rule.image(image) for image in rule.PICTURES], resize=False)
    with torch.no_grad():
        outputs = detector.run(batch)
    for stage, output in enumerate(outputs):
        logits = torch.from_numpy(reference[f"s{stage}_cls"])
        boxes = torch.from_numpy(reference[f"s{stage}_box"])
        assert (output.logits - logits).abs().max() < 3e-4
        assert (output.boxes - boxes).abs().max() < 0.03
