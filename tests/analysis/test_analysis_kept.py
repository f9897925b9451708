"""What analyses keep: named by all that decides it, part by part, and never done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted import NAMES, QUIET, B, Pictures
from small_model import small_config, small_model

from sparse_rcnn_lab import analysis
from sparse_rcnn_lab.analysis.experiments import cost, kept, passes
from sparse_rcnn_lab.analysis.experiments.kept import Job, weights_hash
from sparse_rcnn_lab.core.ablation import NORMAL, Ablation
from sparse_rcnn_lab.data.sample import Sample
from sparse_rcnn_lab.detect.detector import Detector

Call = tuple[Any, dict[str, Any], dict[str, Any]]
CALLS: list[Call] = [
    (analysis.ap_curve, {"n": [1], "stages": [2]}, {"n": [2]}),
    (analysis.ap_curve, {"n": [1], "stages": [2]}, {"stages": [1]}),
    (analysis.ap_curve, {"n": [1], "stages": [2]}, {"order": [1, 0, 2, 3]}),
    (analysis.rank_proposals, {}, {"by": "wins"}),
    (analysis.careers, {}, {"threshold": 0.85}),
    (analysis.verdicts, {}, {"threshold": 0.85}),
    (analysis.funnel, {"schedules": [(2, 2)]}, {"schedules": [(4, 1)]}),
    (analysis.adaptive_stop, {"tolerances": [0.1]}, {"tolerances": [0.2]}),
    (analysis.adaptive_stop, {"tolerances": [0.1]}, {"least": 0.95}),
    (analysis.switch_costs, {}, {"threshold": 0.85}),
    (analysis.switch_costs, {}, {"stages": [1]}),
    (
        analysis.switch_costs,
        {"switches": {"a": NORMAL, "b": NORMAL}},
        {"switches": {"a": NORMAL, "b": Ablation(freeze_boxes=True)}},
    ),
    *(
        (run, {}, {"limit": 1})
        for run in (
            analysis.rank_proposals,
            analysis.careers,
            analysis.verdicts,
            analysis.funnel,
            analysis.adaptive_stop,
            analysis.switch_costs,
            analysis.lens,
        )
    ),
]


@contextmanager
def stopped_at_the_last(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In here somebody presses Ctrl-C when picture 2 is read."""
    whole = Pictures.__getitem__

    def interrupted(self: Pictures, index: int) -> Sample:
        if index == 2:
            raise KeyboardInterrupt
        return whole(self, index)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Pictures, "__getitem__", interrupted)
        yield


@pytest.fixture
def counted(detector: Detector, pictures: Pictures, tmp_path: Path) -> Callable[[], list[int]]:
    """Runs an analysis in batches of one, and says which pictures it had to look at."""

    def run() -> list[int]:
        pictures.read.clear()
        analysis.verdicts(detector, pictures, batch_size=1, cache=tmp_path, progress=False)
        return list(pictures.read)

    return run


def test_done_once_is_done(
    counted: Callable[[], list[int]], detector: Detector, tmp_path: Path
) -> None:
    """Catches work done twice, and old answers for a changed model."""
    assert counted() == [0, 1, 2]
    assert counted() == []
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]  # the parts are gone
    with torch.no_grad():
        detector.model.stages[0].classify.bias += 1.0
    assert counted() == [0, 1, 2]


def test_goes_on_after_an_interrupt(
    counted: Callable[[], list[int]],
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches an interrupt that loses the parts already done."""
    with stopped_at_the_last(monkeypatch):
        counted()
    (folder,) = tmp_path.iterdir()
    (folder / "0000000-0000001.npz").write_bytes(b"cut short")
    assert counted() == [0, 2]


def test_a_damaged_result_is_made_again(counted: Callable[[], list[int]], tmp_path: Path) -> None:
    """Catches a crash over a cache that somebody has touched."""
    counted()
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    assert counted() == [0, 1, 2]


def test_what_is_kept_depends_on_all_that_decides(detector: Detector, pictures: Pictures) -> None:
    """Catches a name that forgets the data, the limit or a setting."""
    job = Job("a", detector, pictures, None, {"t": 0.3}, "cache")
    others = [
        replace(job, data=Pictures([[(B, 0)]])),
        replace(job, limit=1),
        replace(job, settings={"t": 0.4}),
        replace(job, name="b"),
        replace(job, timed=True),
        replace(job, detector=detector.with_runtime(precision="bf16")),
        replace(job, detector=detector.with_runtime("eager")),
        replace(job, detector=detector.with_runtime("compiled")),
    ]
    assert len({str(j.folder()) for j in (job, *others)}) == 9
    assert replace(job, cache=False).folder() is None
    same = replace(job, detector=detector.with_runtime())
    assert same.folder() == job.folder()


def test_kept_times_are_those_of_this_machine(
    detector: Detector, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches times measured with other threads, or elsewhere, given again as if they were ours."""
    files = []
    options: dict[str, Any] = {"cache": tmp_path, "progress": False}
    for threads, cpu in ((1, "a"), (7, "a"), (7, "b")):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=threads: number)
        monkeypatch.setattr(kept, "machine", lambda device, name=cpu: {"cpu": name})
        analysis.ap_curve(detector, pictures, n=[1], **options)
        analysis.funnel(detector, pictures, schedules=[(1, 1)], **options)
        files.append(len(list(tmp_path.glob("*.json"))))
    assert files == [2, 4, 6]


@pytest.mark.parametrize("call", CALLS, ids=lambda c: f"{c[0].__name__}-{'-'.join(c[2])}")
def test_every_option_has_its_own_answer(
    call: Call, detector: Detector, pictures: Pictures, tmp_path: Path
) -> None:
    """Catches the answer of other options given again from the cache."""
    run, base, other = call
    for options in (base, {**base, **other}, base):
        run(detector, pictures, cache=tmp_path, progress=False, **options)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_which_switch_is_the_base_has_its_own_answer(
    detector: Detector, pictures: Pictures, tmp_path: Path
) -> None:
    """Catches costs against another switch: json with sorted keys forgets who came first."""
    tried = {"a": NORMAL, "b": Ablation(freeze_boxes=True)}
    for switches in (tried, dict(reversed(tried.items()))):
        table = analysis.switch_costs(
            detector, pictures, switches=switches, cache=tmp_path, progress=False
        )
        assert table["switch"] == list(switches)


def test_a_name_forgets_neither_classes_nor_version(
    detector: Detector, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches tables of an older way to count, and of the same weights with classes renamed."""
    renamed = Detector(detector.model, (NAMES[1], NAMES[0], NAMES[2]), detector.name)
    larger = small_model(input=replace(small_config().input, short_side=32))
    assert weights_hash(renamed) != weights_hash(detector)
    assert weights_hash(Detector(larger, NAMES)) != weights_hash(Detector(small_model(), NAMES))
    job = Job("a", detector, pictures, None, {}, "cache")
    before = job.folder()
    monkeypatch.setattr(kept, "VERSION", kept.VERSION + 1)
    assert job.folder() != before
    assert replace(job, cache=None).folder() is not None


def test_parts_outlive_a_stop_while_the_table_is_made(
    detector: Detector, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches parts dropped before the table is written, or counted twice when read again."""

    def stopped(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(passes.Found, "stats", stopped)
        with pytest.raises(KeyboardInterrupt):
            analysis.verdicts(detector, pictures, batch_size=1, cache=tmp_path, progress=False)
    pictures.read.clear()
    again = analysis.verdicts(detector, pictures, batch_size=1, cache=tmp_path, progress=False)
    assert pictures.read == []
    assert again.objects["image"] == [0, 1, 2]
    assert again.objects.rows() == analysis.verdicts(detector, pictures, **QUIET).objects.rows()


@pytest.mark.parametrize("size", [1, 2])
def test_a_resumed_answer_is_that_of_an_unbroken_run(
    detector: Detector,
    pictures: Pictures,
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches a part that comes twice or not at all after an interrupt, here with other batches."""
    with stopped_at_the_last(monkeypatch):
        analysis.verdicts(detector, pictures, batch_size=1, cache=tmp_path, progress=False)
    found = analysis.verdicts(detector, pictures, batch_size=size, cache=tmp_path, progress=False)
    unbroken = analysis.verdicts(detector, pictures, **QUIET)
    assert found.objects.rows() == unbroken.objects.rows()
    assert found.stages.rows() == unbroken.stages.rows()


def test_the_first_answer_is_like_the_kept_one(
    detector: Detector, pictures: Pictures, tmp_path: Path
) -> None:
    """Catches a table whose making is told in tuples at first, and in lists when it is read."""
    first, kept_one = (
        analysis.ap_curve(detector, pictures, n=[1, 2], cache=tmp_path, progress=False)
        for _ in range(2)
    )
    assert first.to_dict() == kept_one.to_dict()
    assert first.about["n"] == [1, 2]


def test_costs_measured_before_an_interrupt_are_kept(
    detector: Detector, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches minutes of timing lost, and a time read back for another row."""
    measured: list[float] = []
    stop_after: int | None = 2  # the pyramid and the first of two rows

    def times(*_: Any) -> float:
        if len(measured) == stop_after:
            raise KeyboardInterrupt
        measured.append(100.0 + len(measured))
        return measured[-1]

    monkeypatch.setattr(cost, "milliseconds", times)
    options: dict[str, Any] = {"n": [1, 3], "stages": [2], "cache": tmp_path, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        analysis.ap_curve(detector, pictures, **options)
    stop_after = None
    curve = analysis.ap_curve(detector, pictures, **options)
    assert measured == [100, 101, 102, 103]  # the pyramid once more, and the second row
    assert curve["stages_ms"] == [101, 103]


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_shown_where_it_is_wanted(
    shown: bool, detector: Detector, pictures: Pictures, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a bar that is never there, or always."""
    analysis.verdicts(detector, pictures, cache=False, progress=shown)
    said = capsys.readouterr().err
    assert ("verdicts:" in said, "AP:" in said) == (shown, shown)
