"""Teaching: the recipe's rule, the words, and the whole way from a folder to a model."""

import json
import re
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import tiny

from sparse_rcnn_lab import CocoFolder, LabError, Shapes, load
from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.data.coco.project import Project
from sparse_rcnn_lab.models.checkpoint import Checkpoint, save_checkpoint
from sparse_rcnn_lab.training.fit import begin
from sparse_rcnn_lab.training.run_folder import RunFolder
from sparse_rcnn_lab.training.teach import plan, teaching
from sparse_rcnn_lab.training.teach.judgement import judge_traces
from sparse_rcnn_lab.training.teach.plan import choose_changes, make_plan, steps_within
from sparse_rcnn_lab.training.teach.progress import STOP, is_alive, read_progress
from sparse_rcnn_lab.training.teach.suggest import SCORE, Suggestions
from sparse_rcnn_lab.training.teach.teaching import teach

DRAWN = Shapes(14, seed=3, size=64)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(plan, "STEPS", (12, 12))
    monkeypatch.setattr(teaching, "EVALUATIONS", 2)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    config = tiny(model__input__short_side=64, model__input__long_side=64).model
    names = DRAWN.class_names
    return save_checkpoint(tmp_path / "start.safetensors", SparseRCNN(config), names, "start")


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path / "project")
    for number, sample in enumerate(DRAWN):
        boxes = [
            {"name": DRAWN.class_names[label], "box": box}
            for label, box in zip(sample.labels.tolist(), sample.boxes.tolist(), strict=True)
        ]
        project.add(sample.image, boxes=boxes, taken=60.0 * number)
    return project


def quiet(project, out, model, **options):
    settings = {"minutes": 5, "workers": 0, "progress": False, "say": lambda text: None}
    return teach(project, out, start_from=model, **{**settings, **options})


def test_the_rule(monkeypatch):
    """Catches small objects that are made smaller, be it only at first or only one class, a
    mirrored left hand, too few proposals, a rare class that is lost among the others, and weights
    where none is rare."""
    few = choose_changes(320, [60.0] * 20, [2] * 10, ["mug"])
    assert few["augment__size"] == (320, 320) and few["augment__hflip"] == 0.5
    small = choose_changes(320, [8.0] * 20, [2] * 10, ["mug"])
    assert small["augment__size"] == (416, 416) and small["model__input__short_side"] == 416
    assert choose_changes(320, [60.0], [1], ["left hand"])["augment__hflip"] == 0
    names, labels = ["red", "white", "platelet"], [0] * 225 + [1] * 20 + [2] * 14
    cells = choose_changes(320, [60.0] * 245 + [20.0] * 14, [13] * 20, names, labels)
    alike = choose_changes(320, [60.0] * 15, [2], ["mug", "keys", "none yet"], [0] * 9 + [1] * 6)
    assert cells["loss__balanced"] and "loss__balanced" not in alike
    assert cells["loss__focal_gamma"] == 2 and alike["loss__focal_gamma"] == 0
    assert cells["train__progressive_resizing"] == 0 < alike["train__progressive_resizing"]
    monkeypatch.undo()
    crowd = choose_changes(320, [30.0] * 2000, [2000], ["cell"])
    assert crowd["model__num_proposals"] == 300
    crowd = choose_changes(320, [60.0] * 270, [27] * 10, ["cell"])
    assert crowd["model__num_proposals"] == 100 and crowd["loss__matches_per_object"] == (1,)
    assert "model__num_proposals" not in choose_changes(320, [60.0] * 60, [2] * 20 + [20], ["mug"])
    assert steps_within(240, 1.0, 2000, 4) == 240 and steps_within(240, 0.1, 8, 4) == 300


def test_the_minutes_are_those_of_all_of_it(project, model, tmp_path, monkeypatch):
    """Catches four minutes that become five, as checks, evaluations and judgement come on top."""
    monkeypatch.setattr(plan, "STEPS", (1, 3000))
    step, evaluation, checks = 0.5, 4.0, 20.0
    monkeypatch.setattr(teaching._Work, "_timed", lambda *_: (step, evaluation))
    state = {"minutes": 2.0, "start_from": str(model), "data": ""}
    work = teaching._Work(tmp_path / "run", state, lambda text: None)
    (tmp_path / "run").mkdir()
    work.prepare(project, seed=0)
    work._since = time.monotonic() - checks
    work.measure("cpu")
    evaluations = -(-work.state["steps"] // work.state["evaluate_every"]) + 2  # judging takes two
    assert 100 < checks + work.state["steps"] * step + evaluations * evaluation <= 120


def test_classes_by_name(model):
    """Catches scores of one class that become another's, where there are as many classes."""
    names = ("star", "Circle", *DRAWN.class_names[2:-1], "mug")
    assert len(names) == len(DRAWN.class_names)
    recipe = tiny(model__input__short_side=64, model__input__long_side=64)
    begun = begin(recipe, torch.device("cpu"), start_from=model, names=names)
    before = load(model).model.stages[0].classify
    after = begun.model.stages[0].classify
    was = list(DRAWN.class_names)
    torch.testing.assert_close(after.weight[0], before.weight[was.index("star")])
    torch.testing.assert_close(after.weight[1], before.weight[was.index("circle")])
    torch.testing.assert_close(after.weight[-1], before.weight.mean(0))


def test_from_a_project_to_a_model(project, model, tmp_path, monkeypatch):
    """Catches a run without its parts, a second start over a finished one, a page told nothing, and
    a shipped model watched in place of the one that is taught into a folder of its name."""
    monkeypatch.chdir(tmp_path)
    taught = quiet(project, "nano-shapes", model)
    run = tmp_path / "nano-shapes"
    assert load(run).class_names == tuple(project.class_names)
    progress = read_progress(run)
    assert progress["phase"] == "done" and progress["step"] == progress["steps"] == 12
    assert "data" not in progress, "no page is told where the images lie"
    assert len(progress["ap50_curve"]) >= 2 and len(progress["loss"][0]) == 3  # two stages
    watched = [json.loads(line) for line in (run / "watch.jsonl").open()]
    assert watched[0]["step"] == 0 and watched[-1]["step"] == 12
    assert {len(line["boxes"]) for line in watched} == {8}
    assert taught.judgement.images == progress["num_val"] and not taught.stopped
    trained, held_out = (
        {row["id"] for row in json.loads((run / f"{part}.json").read_text())["images"]}
        for part in ("train", "val")
    )
    assert not held_out & trained
    with pytest.raises(LabError, match="finished run"):
        quiet(project, run, model)
    # More classes: what it knows by name stays, and goes on.
    project.label(1, [{"name": "mug", "box": [5, 5, 30, 30]}])
    again = quiet(project, tmp_path / "more", run)
    assert again.detector.class_names[-1] == "mug"


def test_a_long_run_is_told_in_short(tmp_path):
    """Catches a page that is sent twice the rows that it can show."""
    row = {"seconds": 1.0, "loss_per_stage": [1.0]}
    lines = [json.dumps({"step": step, **row}) for step in range(1, 300)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "teach.json").write_text('{"phase": "training", "steps": 400}', encoding="utf-8")
    progress = read_progress(tmp_path)
    assert 75 < len(progress["loss"]) <= 150 and progress["seconds_left"] == 101


def test_who_is_done_is_not_at_work(tmp_path, monkeypatch):
    """Catches a sign of life that comes once more after the end, and keeps others out."""
    honest, begun = Path.touch, threading.Event()

    def slow(self: Path, *given: object) -> None:
        begun.set()
        time.sleep(0.2)
        honest(self, *given)

    monkeypatch.setattr(Path, "touch", slow)
    with teaching._Work(tmp_path, {}, print).beating():
        begun.wait(10)
    time.sleep(0.3)
    assert not is_alive(tmp_path)


def test_an_interrupted_run_goes_on(project, model, tmp_path, monkeypatch):
    """Catches a run that begins anew, or with other images, after it was killed; and one that goes
    on in silence when it is given others."""

    class Killed(BaseException):
        pass

    def killed(self, number, detector, sample, before=teaching._Work._watch):
        before(self, number, detector, sample)
        if number:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(teaching._Work, "_watch", killed)
        quiet(project, tmp_path / "run", model)
    before = read_progress(tmp_path / "run")
    assert before["phase"] == "training" and 0 < before["step"] < 12
    with pytest.raises(LabError, match="not those of"):
        quiet(Project(tmp_path / "other"), tmp_path / "run", model)
    project.remove(2)  # what it learns from was fixed when it began
    said: list[str] = []
    taught = quiet(project, tmp_path / "run", model, say=said.append)
    assert "Continues" in said[0] and not taught.stopped
    steps = [row["step"] for row in RunFolder(tmp_path / "run").rows("metrics")]
    assert steps == list(range(1, 13))
    after = read_progress(tmp_path / "run")
    assert after["phase"] == "done" and after["num_train"] == before["num_train"]


def test_two_zips_of_one_name(project, model, tmp_path, monkeypatch):
    """Catches a run that goes on with the images of another export, and images that are gone with
    the folder they were unpacked into."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(teaching._Work, "measure", killed)
    one, two = (shutil.make_archive(str(tmp_path / n / "e"), "zip", project.folder) for n in "ab")
    with pytest.raises(KeyboardInterrupt):
        quiet(one, tmp_path / "run", model)
    with pytest.raises(LabError, match=r'a/e\.zip", not those of ".*b/e\.zip"'):
        quiet(two, tmp_path / "run", model)
    assert CocoFolder(tmp_path / "run")[0].image.ndim == 3


@pytest.mark.parametrize("when", ["before it trains", "while it trains"])
def test_stopping_keeps_what_is_learned(project, model, tmp_path, monkeypatch, when):
    """Catches a stop that throws the model away, or is not heard."""
    run = tmp_path / "run"
    run.mkdir()

    def stop() -> None:
        for _ in range(600):
            if read_progress(run)["step"] or when == "before it trains":
                break
            time.sleep(0.05)
        (run / STOP).touch()

    monkeypatch.setattr(plan, "STEPS", (400, 400))
    threading.Thread(target=stop).start()
    taught = quiet(project, run, model)
    assert taught.stopped and read_progress(run)["stopped"] and not (run / STOP).exists()
    assert not read_progress(run)["time_over"]  # somebody stopped it
    assert read_progress(run)["done_steps"] < read_progress(run)["steps"]
    assert load(run).class_names == tuple(project.class_names)


def test_its_time_is_over(project, model, tmp_path, monkeypatch):
    """Catches a training that goes on for ever, and one that does not say why it stopped."""
    monkeypatch.setattr(teaching, "PATIENCE", 0.0)
    taught = quiet(project, tmp_path / "run", model)
    progress = read_progress(tmp_path / "run")
    assert taught.stopped and progress["time_over"] and progress["done_steps"] < progress["steps"]


def test_the_command(tmp_path, capsys, monkeypatch):
    """Catches photographs without labels that are trained on as empty ones, captions beside them of
    which nothing is said, and one run for two folders whose names differ after a dot: it would go
    on with the first one's images.
    """
    sample = DRAWN[0]
    project = Project(tmp_path / "p")
    project.add(sample.image)
    folder = tmp_path / "photographs"
    (project.folder / "images").rename(folder)
    next(folder.glob("*.jpg")).with_suffix(".txt").write_text("A red circle.")
    assert main(["teach", str(folder), "--out", str(tmp_path / "run")]) == 2
    assert re.search(r"no labels\. .*line 1 is not numbers.* Draw boxes", capsys.readouterr().err)
    assert read_progress(tmp_path / "run")["phase"] == "failed"
    monkeypatch.chdir(tmp_path)
    for name in ("boards.1", "boards.2"):
        folder = folder.rename(tmp_path / name)
        assert main(["teach", str(folder)]) == 2
        assert (tmp_path / "runs" / f"teach-{name}").is_dir()


def test_words():
    """Catches praise for what is missed, and advice that the numbers do not give."""
    detector = load("nano-shapes")
    drawn = Shapes(12, seed=11)
    good = judge_traces([detector.trace(sample) for sample in drawn], drawn.class_names)
    total = sum(one.objects for one in good.classes)
    assert sum(one.found for one in good.classes) > 0.7 * total and "finds" in good.words
    # The same detections, judged by someone who calls every circle a square.
    label = drawn.class_names.index("circle")
    other = drawn.class_names.index("square")
    wrong = []
    for sample in drawn:
        labels = torch.where(sample.labels == label, other, sample.labels)
        wrong.append(detector.trace(replace(sample, labels=labels)))
    judged = judge_traces(wrong, drawn.class_names)
    assert judged.classes[other].taken_for.get("circle", 0) > 0
    assert "nobody knows" in judged.classes[label].words


def test_suggestions_learn_from_one_image():
    """Catches offers of a class nobody has drawn, the loss of those that somebody has, an image
    without boxes from which nothing is learned, and one that could not be read once, neither."""
    suggestions = Suggestions(load("nano-shapes"))
    first, second = Shapes(2, seed=1)
    drawn = {1: [("thing", box) for box in first.boxes.tolist()]}
    with pytest.raises(KeyError):
        suggestions.follow(drawn, {}.__getitem__)
    suggestions.follow(drawn, lambda image: first.image)
    offers = suggestions.offers(second.image, ["thing"])
    assert {offer.name for offer in offers} <= {"thing", ""} and offers
    shown = {1: first.image, 2: second.image}
    suggestions.follow({**drawn, 2: []}, shown.__getitem__)  # nothing is there, somebody said
    fewer = suggestions.offers(second.image, ["thing"])
    assert sum(one.name == "thing" for one in fewer) < sum(one.name == "thing" for one in offers)
    suggestions.follow({}, lambda image: first.image)
    assert all(offer.name == "" for offer in suggestions.offers(second.image, ["thing"]))


def test_suggestions_of_things_the_model_does_not_know():
    """Catches offers that only scores lead to: no class of it stands for a drawn shape."""
    detector, shapes = load("small-everyday"), Shapes(6, seed=1)
    suggestions, found = Suggestions(detector), []
    for number, sample in enumerate(shapes):
        offers = suggestions.offers(sample.image, ["thing"])
        assert {offer.name for offer in offers} == ({"thing"} if number else {""})
        offered = torch.tensor([offer.box for offer in offers])
        found += (box_ops.iou(offered, sample.boxes) >= 0.7).any(dim=0).tolist()
        suggestions.learn(number, sample.image, [("thing", box) for box in sample.boxes.tolist()])
    scores = detector(shapes[0].image, threshold=0).scores
    assert sum(found) >= len(found) / 3 and scores.max() < SCORE


def test_warnings_come_before_the_training(project, tmp_path):
    """Catches a class with two boxes that nobody is told of."""
    project.label(1, [{"name": "rare", "box": [5, 5, 30, 30]}])
    document = json.dumps(project.coco())
    (tmp_path / "train.json").write_text(document)
    data = CocoFolder(tmp_path / "train.json", images=project.images)
    start = Checkpoint(tiny().model, {}, ("cup",), "start")
    assert any("rare (1)" in text for text in make_plan(start, data).warnings)


def test_the_model_that_is_taught(project, tmp_path):
    """Catches a plan for crowded images that takes proposals from the model, and one that asks for
    more stages than the model has, or keeps all of them."""
    for number in range(1, len(project) + 1):
        project.label(number, [{"name": "cell", "box": [i, i, 30, 30]} for i in range(9)])
    (tmp_path / "train.json").write_text(json.dumps(project.coco()))
    data, config = CocoFolder(tmp_path / "train.json", images=project.images), tiny().model

    def model(**changes):
        start = Checkpoint(replace(config, **changes), {}, ("cup",), "start")
        return make_plan(start, data).recipe.model

    assert model(num_proposals=130).num_proposals == 130
    assert [model(num_stages=n).num_stages for n in (2, 6)] == [2, 4]
