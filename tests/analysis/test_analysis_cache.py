"""What analyses keep: named by all that decides it, part by part, and never done twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from scripted import NAMES, QUIET, B, GreyImages, column
from small_model import small_config, small_model

from sparse_rcnn_lab import Ablation, Detector, LabError, analysis
from sparse_rcnn_lab.analysis.experiments import cache, running_cost, variants
from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, weights_hash
from sparse_rcnn_lab.core.stage import NORMAL
from sparse_rcnn_lab.data.sample import Sample

BOXES = Ablation(freeze_boxes=True)
Call = tuple[Any, dict[str, Any], dict[str, Any]]
CALLS: list[Call] = [
    (analysis.ap_curve, {"n": [1], "stages": [2]}, {"n": [2]}),
    (analysis.ap_curve, {"n": [1], "stages": [2]}, {"stages": [1]}),
    (analysis.ap_curve, {"n": [1], "stages": [2]}, {"order": [1, 0, 2, 3]}),
    (analysis.rank_proposals, {}, {"by": "wins"}),
    (analysis.proposal_statistics, {}, {"threshold": 0.85}),
    (analysis.object_outcomes, {}, {"threshold": 0.85}),
    (analysis.proposal_pruning, {"schedules": [(2, 2)]}, {"schedules": [(4, 1)]}),
    (analysis.early_exit, {"tolerances": [0.1]}, {"tolerances": [0.2]}),
    (analysis.early_exit, {"tolerances": [0.1]}, {"min_score": 0.95}),
    (analysis.ablation_costs, {}, {"threshold": 0.85}),
    (analysis.ablation_costs, {}, {"stages": [1]}),
    (
        analysis.ablation_costs,
        {"ablations": {"a": NORMAL, "b": NORMAL}},
        {"ablations": {"a": NORMAL, "b": BOXES}},
    ),
    # Json with sorted keys forgets who came first: the base that costs are told against.
    (
        analysis.ablation_costs,
        {"ablations": {"a": NORMAL, "b": BOXES}},
        {"ablations": {"b": BOXES, "a": NORMAL}},
    ),
    *(
        (run, {}, {"limit": 1})
        for run in (
            analysis.rank_proposals,
            analysis.proposal_statistics,
            analysis.object_outcomes,
            analysis.proposal_pruning,
            analysis.early_exit,
            analysis.ablation_costs,
            analysis.cross_stage_readout,
        )
    ),
]


@contextmanager
def stopped_at_the_last(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In here somebody presses Ctrl-C when image 2 is read."""
    whole = GreyImages.__getitem__

    def interrupted(self: GreyImages, index: int) -> Sample:
        if index == 2:
            raise KeyboardInterrupt
        return whole(self, index)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(GreyImages, "__getitem__", interrupted)
        yield


@pytest.fixture
def outcomes(detector, ants, tmp_path) -> Callable[..., tuple[list[int], analysis.ObjectOutcomes]]:
    """Runs an analysis in batches of one; gives which images it looked at, and what it found."""

    def run(**options: Any) -> tuple[list[int], analysis.ObjectOutcomes]:
        ants.read.clear()
        settings = {"batch_size": 1, "cache": tmp_path, "progress": False, **options}
        found = analysis.object_outcomes(detector, ants, **settings)
        return list(ants.read), found

    return run


def test_done_once_is_done(outcomes, detector, tmp_path):
    """Catches work done twice, old answers for a changed model, and a crash over a cache that
    somebody has touched.
    """
    assert outcomes()[0] == [0, 1, 2]
    assert outcomes()[0] == []
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".json"  # the parts are gone
    file.write_text("{")
    assert outcomes()[0] == [0, 1, 2]
    with torch.no_grad():
        detector.model.stages[0].classify.bias += 1.0
    assert outcomes()[0] == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2])
def test_goes_on_after_an_interrupt(size, outcomes, tmp_path, monkeypatch):
    """Catches an interrupt that loses the parts already done, a part cut short that is believed,
    and one that comes twice or not at all, here with other batches.
    """
    with stopped_at_the_last(monkeypatch):
        outcomes()
    (folder,) = tmp_path.iterdir()
    (folder / "0000000-0000001.npz").write_bytes(b"cut short")
    read, found = outcomes(batch_size=size)
    assert read == ([0, 2] if size == 1 else [0, 1, 2])
    unbroken = outcomes(cache=False)[1]
    assert found.objects.records() == unbroken.objects.records()
    assert found.stages.records() == unbroken.stages.records()


def test_parts_outlive_a_stop_while_the_table_is_made(outcomes, monkeypatch):
    """Catches parts dropped before the table is written, or counted twice when read again."""

    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(variants, "coco_stats", stopped)
        outcomes()
    read, again = outcomes()
    assert read == []
    assert column(again.objects, "image") == [0, 1, 2]
    assert again.objects.records() == outcomes(cache=False)[1].objects.records()


def test_a_cache_that_cannot_be_written(outcomes, tmp_path, monkeypatch):
    """Catches hours of work that end at a cache, and a folder that is named and not used."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="nothing is kept"):
        assert outcomes(cache=None)[0] == [0, 1, 2]
    with pytest.raises(LabError, match="Could not write"):
        outcomes(cache=tmp_path / "file")


def test_what_is_kept_depends_on_all_that_decides(detector, ants, monkeypatch):
    """Catches a name that forgets the data, the limit, a setting, the runtime or the version."""
    run = CachedRun("a", detector, ants, {"t": 0.3}, cache="cache")
    others = [
        replace(run, data=GreyImages([[(B, 0)]])),
        replace(run, limit=1),
        replace(run, settings={"t": 0.4}),
        replace(run, name="b"),
        replace(run, timed=True),
        replace(run, detector=detector.with_runtime(precision="bf16")),
        replace(run, detector=detector.with_runtime("eager")),
        replace(run, detector=detector.with_runtime("compiled")),
    ]
    assert len({str(r.folder) for r in (run, *others)}) == 9
    assert replace(run, cache=False).folder is None
    assert replace(run, cache=None).folder is not None
    assert replace(run, detector=detector.with_runtime()).folder == run.folder
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    assert replace(run).folder != run.folder


def test_a_name_forgets_neither_classes_nor_input(detector):
    """Catches tables of the same weights with classes renamed, or with larger images."""
    renamed = Detector(detector.model, (NAMES[1], NAMES[0], NAMES[2]), detector.name)
    larger = small_model(input=replace(small_config().input, short_side=32))
    assert weights_hash(renamed) != weights_hash(detector)
    assert weights_hash(Detector(larger, NAMES)) != weights_hash(Detector(small_model(), NAMES))


def test_kept_times_are_those_of_this_machine(detector, ants, tmp_path, monkeypatch):
    """Catches times measured with other threads, or elsewhere, given again as if they were ours."""
    files = []
    options: dict[str, Any] = {"cache": tmp_path, "progress": False}
    for threads, cpu in ((1, "a"), (7, "a"), (7, "b")):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=threads: number)
        monkeypatch.setattr(cache, "machine", lambda device, name=cpu: {"cpu": name})
        analysis.ap_curve(detector, ants, n=[1], **options)
        analysis.proposal_pruning(detector, ants, schedules=[(1, 1)], **options)
        files.append(len(list(tmp_path.glob("*.json"))))
    assert files == [2, 4, 6]


@pytest.mark.parametrize("call", CALLS, ids=lambda c: f"{c[0].__name__}-{'-'.join(c[2])}")
def test_every_option_has_its_own_answer(call, detector, ants, tmp_path):
    """Catches the answer of other options given again from the cache, and a table whose making is
    told in tuples at first, and in lists when it is read.
    """
    run, base, other = call
    first, _, again = (
        run(detector, ants, cache=tmp_path, progress=False, **options)
        for options in (base, {**base, **other}, base)
    )
    assert len(list(tmp_path.glob("*.json"))) == 2
    if isinstance(first, analysis.Table):
        assert first.to_plain() == again.to_plain()


def test_costs_measured_before_an_interrupt_are_kept(detector, ants, tmp_path, monkeypatch):
    """Catches minutes of timing lost, and a time read back for another row."""
    measured: list[float] = []
    stop_after: int | None = 2  # the pyramid and the first of two rows

    def times(*_: Any) -> float:
        if len(measured) == stop_after:
            raise KeyboardInterrupt
        measured.append(100.0 + len(measured))
        return measured[-1]

    monkeypatch.setattr(running_cost, "milliseconds", times)
    options: dict[str, Any] = {"n": [1, 3], "stages": [2], "cache": tmp_path, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        analysis.ap_curve(detector, ants, **options)
    stop_after = None
    curve = analysis.ap_curve(detector, ants, **options)
    assert measured == [100, 101, 102, 103]  # the pyramid once more, and the second row
    assert column(curve, "stages_ms") == [101, 103]


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_shown_where_it_is_wanted(shown, detector, ants, capsys):
    """Catches a bar that is never there, or always."""
    analysis.object_outcomes(detector, ants, **{**QUIET, "progress": shown})
    said = capsys.readouterr().err
    assert ("object_outcomes:" in said, "AP:" in said) == (shown, shown)
