"""Session: what an edit, a drop or a switch changes, and above all what it leaves alone."""

import numpy as np
import pytest
import torch

from sparse_rcnn_lab import Ablation, Detector, Intervention, LabError, Session, Trace, trace_diff
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.inputs import Sample
from sparse_rcnn_lab.core.trace import RECORDABLE
from sparse_rcnn_lab.intervene.intervention import MAX_STAGES
from tests.small_model import CLASSES, DIM, PROPOSALS, STAGES, small_model

NAMES = ("cat", "dog", "bird")
H, W = 90, 120
BOX = (20.0, 10.0, 70.0, 60.0)


def noise(seed: int = 0, height: int = H, width: int = W) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def detector() -> Detector:
    return Detector(small_model(overlap_attention=8.0), NAMES, "small")


@pytest.fixture
def session(detector) -> Session:
    return Session(detector, noise(), record=RECORDABLE)


def parts(trace: Trace, until: int | None = None) -> list[torch.Tensor]:
    """All that the stages computed, of the states up to ``until``."""
    states = slice(None) if until is None else slice(until + 1)
    stages = slice(None) if until is None else slice(until)
    found = [trace.boxes[states], trace.features[states]]
    return found + [
        value[stages]
        for name in ("logits", "fpn_level", *RECORDABLE)
        if (value := getattr(trace, name)) is not None
    ]


def same(a: Trace, b: Trace, until: int | None = None) -> bool:
    pairs = zip(parts(a, until), parts(b, until), strict=True)
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


def close(a: Trace, b: Trace) -> None:
    for x, y in zip(parts(a), parts(b), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_a_session_says_what_the_detector_says(detector, session):
    """Catches another scale, order or recording; the second run goes through every stage."""
    direct = detector.trace(noise(), record=RECORDABLE)
    assert same(session.base, direct)
    assert torch.equal(session.base.image, direct.image)
    assert same(session.run(), direct)
    session.edit(2, feature=direct.features[0, 2])  # its own: every stage runs, nothing changes
    assert same(session.run(), direct)
    assert session.run() is session.trace


def test_fewer_proposals_and_own_pixels(detector):
    """Catches ``num_proposals`` or ``resize`` that set_image forgets."""
    session = Session(detector, noise(), num_proposals=3, resize=False)
    assert same(session.base, detector.trace(noise(), num_proposals=3, resize=False))
    assert session.proposals == (0, 1, 2)


@pytest.mark.parametrize("stage", range(STAGES + 1))
def test_an_edit_belongs_to_its_state(session, stage):
    """Catches an edit that is a stage late, in input pixels, or undone by the next stage."""
    session.edit(4, box=BOX, feature="zero", stage=stage)
    trace = session.run()
    if stage:
        assert same(trace, session.base, until=stage - 1)
        assert torch.equal(trace.logits[stage - 1], session.base.logits[stage - 1])
    torch.testing.assert_close(trace.boxes[stage, 4], torch.tensor(BOX))
    assert not trace.features[stage, 4].any()
    others = torch.arange(PROPOSALS) != 4
    assert torch.equal(trace.boxes[stage, others], session.base.boxes[stage, others])
    for after in range(stage, STAGES):
        assert (trace.logits[after, 4] != session.base.logits[after, 4]).any()


def test_an_edit_runs_the_stages_on_exactly_that(detector, session):
    """Catches stages that start from the wrong features, or from boxes of the base."""
    session.edit(1, box=BOX, stage=2)
    trace = session.run()
    batch = detector.prepare([noise()])
    with torch.no_grad():
        pyramid = detector.model.pyramid(batch.images)
        boxes = box_ops.rescale(trace.boxes[2], torch.tensor(trace.scale))[None]
        outputs = detector.model.run_stages(
            pyramid, boxes, trace.features[2][None], start=2, confidence=trace.logits[1:2].amax(-1)
        )
    for index, output in enumerate(outputs):
        torch.testing.assert_close(trace.logits[2 + index], output.logits[0], rtol=1e-4, atol=1e-4)


def test_edits_add_up(session):
    """Catches a second edit that replaces the first, or is applied in the order of typing."""
    session.edit(0, box=BOX, stage=3)
    session.edit(5, feature="zero", stage=1)
    together = session.run()
    torch.testing.assert_close(together.boxes[3, 0], torch.tensor(BOX))
    assert not together.features[1, 5].any()
    assert not torch.equal(together.boxes[3, 1], session.base.boxes[3, 1])  # stage 1 worked on
    session.edit(0, box=(0, 0, W, H), stage=3)
    torch.testing.assert_close(session.run().boxes[3, 0], torch.tensor([0.0, 0.0, W, H]))


def test_drop_is_running_without_them(detector, session):
    """Catches rows that no longer fit their ids: without the others, the numbers are those of
    a model that never had them.
    """
    session.drop([3, 4, 5])
    trace = session.run()
    assert trace.proposal_ids.tolist() == [0, 1, 2]
    close(trace, detector.trace(noise(), num_proposals=3, record=RECORDABLE))
    assert session.proposals == (0, 1, 2)


def test_ids_stay_right_after_a_drop(session):
    """Catches an edit, a swap or a second drop that takes an id for a row."""
    session.drop(0)
    session.edit(4, box=BOX, stage=1)
    trace = session.run()
    torch.testing.assert_close(trace.boxes[1, trace.row(4)], torch.tensor(BOX))
    session.drop([1, 2])
    swapped = session.run(ablation=Ablation(swap_filters=((3, 5),)), start=0)
    assert swapped.proposal_ids.tolist() == [3, 4, 5]
    plain = session.run()
    assert torch.equal(swapped.dynamic_filters[0, 0], plain.dynamic_filters[0, 2])
    assert torch.equal(swapped.dynamic_filters[0, 1], plain.dynamic_filters[0, 1])
    assert set(trace.detections().proposals.tolist()) <= {1, 2, 3, 4, 5}


def test_a_late_drop_keeps_what_came_before(session):
    """Catches stages before the drop that run without the dropped, or rows left behind."""
    session.keep([1, 3], stage=2)
    trace = session.run()
    rows = torch.tensor([1, 3])
    assert trace.proposal_ids.tolist() == [1, 3]
    assert torch.equal(trace.boxes[:3], session.base.boxes[:3, rows])
    assert torch.equal(trace.logits[:2], session.base.logits[:2, rows])
    assert (trace.logits[2] != session.base.logits[2, rows]).any()
    assert torch.equal(trace.attention[1], session.base.attention[1][:, rows][..., rows])
    torch.testing.assert_close(trace.attention[2].sum(-1), torch.ones(2, 2))


def test_switches_act_after_their_state(session):
    """Catches an ablation that reaches stages before ``start``, or only the first after it."""
    off = Ablation(self_attention=False)
    trace = session.run(start=2, ablation=off)
    assert same(trace, session.base, until=2)
    assert not trace.attention[2:].any()
    for stage in (2, 3):
        assert (trace.logits[stage] != session.base.logits[stage]).any()
    everywhere = session.run(ablation=off)
    assert everywhere.attention is not None and not everywhere.attention.any()


def test_freezing(session):
    """Catches boxes or features that freeze before the start, or thaw at an edit."""
    boxes = session.run(start=1, ablation=Ablation(freeze_boxes=True)).boxes
    assert torch.equal(boxes[1], session.base.boxes[1])
    assert all(torch.equal(state, boxes[1]) for state in boxes[2:])
    frozen = Ablation(freeze_features=True)
    session.edit(0, box=BOX, stage=3)
    trace = session.run(start=1, ablation=frozen)
    session.edit(0, feature=trace.features[1, 0], stage=3)  # what stage 4 is given anyway
    again = session.run(start=1, ablation=frozen)
    assert torch.equal(trace.logits, again.logits)
    session.edit(0, feature="zero", stage=3)
    assert not torch.equal(trace.logits[3, 0], session.run(start=1, ablation=frozen).logits[3, 0])


def test_switches_equal_those_of_trace(detector, session):
    """Catches a session that goes from stage to stage differently than the model does."""
    for ablation in (
        Ablation(freeze_features=True),
        Ablation(freeze_boxes=True, heads=(1,)),
        Ablation(filters="mean"),
        Ablation(swap_filters=((0, 4),)),
    ):
        direct = detector.trace(noise(), record=RECORDABLE, ablation=ablation)
        assert same(session.run(ablation=ablation), direct)


def test_more_stages_than_there_are(detector, session):
    """Catches a stop beyond the last stage that is cut off, or starts again at the first."""
    trace = session.run(stop=STAGES + 3)
    assert trace.num_stages == STAGES + 3
    assert same(trace, session.base, until=STAGES)
    batch = detector.prepare([noise()])
    with torch.no_grad():
        boxes, features = detector.model.proposals(batch.sizes)
        pyramid = detector.runtime.pyramid(batch.images)
        outputs = detector.runtime.run_stages(pyramid, boxes, features, stop=STAGES + 3)
    for stage, output in enumerate(outputs):
        assert torch.equal(trace.logits[stage], output.logits[0])
    session.edit(0, box=BOX, stage=STAGES + 1)
    assert same(session.run(stop=STAGES + 3), trace, until=STAGES)
    assert session.run(stop=2).num_stages == 2
    assert same(session.run(stop=2), session.base, until=2)


def test_undo_reset_and_history(session):
    """Catches a change that stays in force, or words that say the wrong thing."""
    base = session.base
    session.edit(1, box=BOX, feature="zero")
    session.drop([2, 3], stage=2)
    assert [str(change) for change in session.history] == [
        "proposal 1, before stage 1: box set to 20, 10, 70, 60 px, feature zeroed",
        "proposals 2, 3 dropped, after stage 2",
    ]
    assert session.run().num_proposals == 4
    session.undo()
    assert session.proposals == tuple(range(6))
    assert session.run().num_proposals == 6
    session.undo()
    assert same(session.run(), base)
    with pytest.raises(LabError, match="nothing to undo"):
        session.undo()
    session.drop(0)
    session.run()
    assert session.reset() is base
    assert session.trace is base and session.history == ()


def test_a_new_image_starts_afresh(session, detector):
    """Catches edits or a pyramid carried over to another image."""
    session.edit(1, box=BOX)
    session.run()
    base = session.set_image(noise(1, 60, 80))
    assert session.history == () and session.trace is base
    assert same(base, detector.trace(noise(1, 60, 80), record=RECORDABLE))
    with pytest.raises(LabError, match="Check the path"):
        session.set_image("no such file.jpg")
    assert session.base is base and same(session.run(), base)


def test_only_the_stages_run_again(session, monkeypatch):
    """Catches a run that computes the pyramid, or stages whose result is known."""
    ran: list[int] = []
    monkeypatch.setattr(session.detector.model, "pyramid", lambda images: pytest.fail("pyramid"))
    for index, stage in enumerate(session.detector.model.stages):
        stage.register_forward_hook(lambda *_, index=index: ran.append(index))
    session.run()
    assert ran == []
    session.edit(0, box=BOX, stage=2)
    session.run()
    assert ran == [2, 3]


def test_ground_truth(detector, session):
    """Catches matches in the wrong frame, or lost by run: each object goes to the proposal that
    lies on it.
    """
    base = session.base
    truth = box_ops.clip(base.boxes[-1, [4, 2]], H, W)
    labels = base.logits[-1, [4, 2]].argmax(-1)
    given = session.set_ground_truth(truth, labels)
    assert given is session.base and given.matches is not None
    assert given.matches[-1, [4, 2]].tolist() == [0, 1]
    assert (given.matches >= 0).sum(-1).tolist() == [2] * STAGES
    session.drop(4)
    trace = session.run()
    assert trace.matches is not None and trace.matches.shape == (STAGES, PROPOSALS - 1)
    assert (trace.matches >= 0).sum(-1).tolist() == [2] * STAGES
    image = torch.from_numpy(noise()).permute(2, 0, 1)
    sample = Sample(image, truth, labels, 7, "seven")
    for traced in (
        detector.trace(sample),
        detector.trace([sample])[0],
        Session(detector, sample).base,
    ):
        assert torch.equal(traced.matches, given.matches)
        assert torch.equal(traced.gt_boxes, truth)
    assert session.set_image(image).matches is None


def test_no_objects(session):
    """Catches an empty ground truth taken for none at all."""
    trace = session.set_ground_truth([], [])
    assert trace.gt_boxes is not None and trace.gt_boxes.shape == (0, 4)
    assert trace.matches is not None and (trace.matches == -1).all()


@pytest.mark.parametrize(
    ("boxes", "labels", "said"),
    [
        ([[0, 0, 5, 5]], [CLASSES], "0..2"),
        ([[0, 0, 5, 5]], [-1], "0..2"),
        ([[0, 0, 5, 5]], [0, 1], r"\[1, 4\] and \[2\]"),
        ([[5, 0, 5, 5]], [0], "right > left"),
        ([[0, 0, float("nan"), 5]], [0], "box 0"),
        ("boxes", [0], "numbers"),
    ],
)
def test_ground_truth_that_cannot_be(session, boxes, labels, said):
    """Catches a traceback from the matching, or matches with a class that does not exist."""
    with pytest.raises(LabError, match=said):
        session.set_ground_truth(boxes, labels)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda s: s.edit(6, box=BOX), "Proposal 6 does not exist"),
        (lambda s: s.edit(-1, box=BOX), "Proposal -1 does not exist"),
        (lambda s: (s.drop(2), s.edit(2, box=BOX)), "Proposal 2 was dropped"),
        (lambda s: s.edit(1), "Nothing to change"),
        (lambda s: s.edit(1.5, box=BOX), "whole numbers"),
        (lambda s: s.edit([1, 2], box=BOX), "one proposal"),
        (lambda s: s.edit(1, box=(1, 2, 3)), "four finite numbers"),
        (lambda s: s.edit(1, box="left"), "four finite numbers"),
        (lambda s: s.edit(1, box=(1, 2, float("inf"), 5)), "four finite numbers"),
        (lambda s: s.edit(1, box=(9, 2, 9, 5)), "no area"),
        (lambda s: s.edit(1, box=(W + 1, 0, W + 9, 9)), "outside the image of 120x90"),
        (lambda s: s.edit(1, box=(-5 * W, 0, 9, 9)), "outside the image"),
        (lambda s: s.edit(1, feature=[0.0] * 3), f"is {DIM} finite numbers"),
        (lambda s: s.edit(1, feature=[float("nan")] * DIM), "NaN"),
        (lambda s: s.edit(1, feature="nought"), "nought"),
        (lambda s: s.edit(1, box=BOX, stage=-1), "stage must be"),
        (lambda s: s.edit(1, box=BOX, stage=1.5), "stage must be"),
        (lambda s: s.run(ablation="mean"), "must be an Ablation"),
        (lambda s: s.try_out(Ablation()), "needs an Intervention"),
        (lambda s: s.try_out(Intervention(repeat=-1)), "repeat must be 0 or more"),
        (lambda s: s.drop([]), "Nothing to drop"),
        (lambda s: s.drop(torch.tensor([True, False])), "named by whole numbers"),
        (lambda s: s.set_ground_truth([[0.1, 0.1, 0.5, 0.5]], [0]), "expected left, top, right"),
        (lambda s: s.drop(range(PROPOSALS)), "At least one"),
        (lambda s: s.keep([]), "Nothing to keep"),
        (lambda s: s.keep([9]), "Proposal 9"),
        (lambda s: s.run(start=STAGES), "start must be"),
        (lambda s: s.run(stop=0), "stop must be"),
        (lambda s: s.run(stop=MAX_STAGES + 1), rf"1\.\.{MAX_STAGES}"),
        (lambda s: s.run(ablation=Ablation(swap_filters=((0, 6),))), "Proposal 6"),
        (lambda s: s.run(ablation=Ablation(heads=(2,))), "heads must be"),
        (lambda s: Ablation(filters="none"), "filters must be"),
        (lambda s: Ablation(swap_filters=((1,),)), "pairs"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(session, wrong, said):
    """Catches an index error, a negative id taken from the end, or a box nobody can see."""
    with pytest.raises(LabError, match=said):
        wrong(session)
    assert all("None" not in str(change) for change in session.history)
    session.reset()
    assert same(session.run(), session.base)


def test_no_image_yet(detector):
    """Catches an attribute error in place of what to do."""
    session = Session(detector)
    for wrong in (session.run, session.reset, lambda: session.edit(0, box=BOX)):
        with pytest.raises(LabError, match="Call set_image first"):
            wrong()
    assert "no image yet" in repr(session)


def test_numpy_numbers_are_numbers(session):
    """Catches ids, stages, boxes and features from an array or a slider that are refused."""
    session.edit(np.int64(3), box=np.array(BOX), feature=np.zeros(DIM), stage=np.int64(1))
    session.drop(torch.tensor([1, 2]))
    assert session.run(stop=np.int64(3)).num_proposals == 4


def test_difference(session):
    """Catches rows compared that belong to different proposals."""
    before = session.base
    nothing = trace_diff(before, session.run(), threshold=0)
    assert not nothing.shift.any() and not nothing.score_change.any()
    assert len(nothing.lost) == len(nothing.gained) == 0
    assert not nothing.changed_class().any()
    session.drop(0)
    session.edit(3, box=BOX, stage=STAGES)
    after = session.run()
    found = trace_diff(before, after, threshold=0)
    assert found.proposal_ids.tolist() == [1, 2, 3, 4, 5]
    wanted = (torch.tensor(BOX) - before.boxes[-1, 3]).view(2, 2).mean(0).norm()
    assert found.shift[2].item() == pytest.approx(wanted.item(), rel=1e-4)
    middle = trace_diff(before, after, stage=2, threshold=0)
    best = [t.logits[1].max(-1).values.sigmoid() for t in (before, after)]
    torch.testing.assert_close(middle.score_change, best[1] - best[0][1:])


def detected(labels: list[int], boxes: list[list[float]], ids: list[int]) -> Trace:
    """A trace of one stage whose proposals are certain of their class."""
    n = len(labels)
    logits = torch.full((1, n, 2), -9.0)
    logits[0, torch.arange(n), labels] = 3.0
    return Trace(
        boxes=torch.tensor([boxes, boxes]),
        logits=logits,
        features=torch.zeros(2, n, 4),
        fpn_level=torch.full((1, n), 2),
        proposal_ids=torch.tensor(ids),
        size=(100, 100),
        scale=(1.0, 1.0),
        class_names=("cat", "dog"),
    )


def test_gained_lost_and_handed_over():
    """Catches an object called lost that another proposal finds, or kept as another class."""
    left, right, below = [0.0, 0, 40, 40], [50.0, 0, 90, 40], [0.0, 50, 40, 90]
    before = detected([0, 1, 0], [left, right, below], [0, 1, 2])
    after = detected([0, 0, 1], [left, below, right], [1, 2, 3])
    found = trace_diff(before, after)
    assert found.handed_over == ((0, 1), (1, 3)) or found.handed_over == ((1, 3), (0, 1))
    assert len(found.kept) == 3 and len(found.gained) == 0 and len(found.lost) == 0
    other = trace_diff(before, detected([1, 1, 0], [left, right, below], [0, 1, 2]))
    assert other.lost.names() == ["cat"] and other.gained.names() == ["dog"]
    assert other.lost.proposals.tolist() == other.gained.proposals.tolist() == [0]
    assert other.changed_class().tolist() == [True, False, False]
    assert "1 gained, 1 lost" in str(other)


def test_traces_that_cannot_be_compared(session, detector):
    """Catches boxes of two images subtracted from each other."""
    with pytest.raises(LabError, match="120x90"):
        trace_diff(session.base, detector.trace(noise(1, 60, 80)))
    few = Session(detector, noise())
    few.keep([0])
    rest = Session(detector, noise())
    rest.drop([0])
    with pytest.raises(LabError, match="no proposal in common"):
        trace_diff(few.run(), rest.run())


def test_a_huge_photo(detector, monkeypatch):
    """Catches a trace of hundreds of megabytes, and boxes that shrink with the image."""
    small = detector.trace(noise())
    monkeypatch.setattr("sparse_rcnn_lab.detect.images.MAX_KEPT_PIXELS", H * W / 4)
    session = Session(detector, noise())
    session.edit(0, box=BOX)
    for trace in (session.base, session.run()):
        assert trace.image is not None and trace.image.shape == (3, H // 2, W // 2)
        assert trace.size == (H, W)
    assert torch.equal(session.base.boxes, small.boxes)
