"""``teach``: trains a detector on a labelled folder within minutes; a killed run can be continued.

Besides what ``fit`` writes, a run folder has

``train.json``, ``val.json``  the training and the held-out images (COCO), with ``images/``
``teach.json``                the progress: phase, steps, notes; at the end the judgement
``watch.jsonl``               the proposals of one held-out image, one line per evaluation
``alive``                     touched every few seconds while a process works here
``stop``                      created by whoever wants to stop the run and keep what was learned
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse_rcnn_lab.core.config import Recipe
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.inputs import Sample
from sparse_rcnn_lab.data.coco.folder import CocoFolder
from sparse_rcnn_lab.data.coco.held_out import split_images
from sparse_rcnn_lab.data.coco.labelled_folder import read_labelled_folder, unpack
from sparse_rcnn_lab.data.coco.project import Project
from sparse_rcnn_lab.data.data_check import check
from sparse_rcnn_lab.data.subset import Subset
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.device import pick_device
from sparse_rcnn_lab.detect.files import write_text, write_whole
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.models.checkpoint import read_checkpoint
from sparse_rcnn_lab.models.load import load, locate
from sparse_rcnn_lab.runtime.torch_runtime import threads_for
from sparse_rcnn_lab.training.evaluate import Evaluation, evaluate
from sparse_rcnn_lab.training.fit import begin, fit
from sparse_rcnn_lab.training.loader import train_loader
from sparse_rcnn_lab.training.run_folder import RunFolder, read_json
from sparse_rcnn_lab.training.step import StepLoss, train_step
from sparse_rcnn_lab.training.teach.judgement import Judgement, judge
from sparse_rcnn_lab.training.teach.plan import make_plan, steps_within
from sparse_rcnn_lab.training.teach.progress import ALIVE, STATE, STOP, WATCH, is_alive

START = "small-everyday"
EVALUATIONS = 8  # at most, during a training
WATCHED_IMAGES = 15  # held-out images that are evaluated during the training
JUDGED_IMAGES = 200
PATIENCE = 1.5  # factor on the given minutes, after which it stops by itself
_MARGIN = 0.9  # steps beside other work last longer than those that are timed
_PROBE = 5  # steps that are timed beforehand
_KEPT_MEGABYTES = 400  # of decoded images in memory, at most
_BEAT = 2.0  # seconds between heartbeats

Say = Callable[[str], None]


@dataclass(frozen=True)
class Taught:
    """The result of :func:`teach`.

    folder: the run folder.  detector: the trained model.  judgement: how well it does, in words.
    evaluation: AP of each stage on the held-out images.  stopped: whether it ended early.
    """

    folder: Path
    detector: Detector
    judgement: Judgement
    evaluation: Evaluation
    stopped: bool


def teach(
    data: str | Path | Project,
    out: str | Path,
    *,
    minutes: float = 4.0,
    start_from: str | Path = START,
    device: str | None = None,
    workers: int | None = None,
    progress: bool = True,
    say: Say = print,
    seed: int = 0,
) -> Taught:
    """Checks and splits the data, trains and evaluates; continues an unfinished run in ``out``.

    data: a labelled folder (COCO, Pascal VOC, YOLO), a zip of one, or a project.
    out: the run folder.  minutes: time for all of it, from the first look at the data to the
    judgement.
    start_from: the model to start from, for example one taught before; classes that it knows by
    name keep what they have learned.
    workers: number of processes that load images; by default none on a CPU, where two threads
    train, and one beside a GPU.
    say: called with one line of text for each thing that happens.

    Ctrl-C, SIGTERM, or a file ``stop`` in ``out`` ends the training early; what was learned is kept
    and judged. Raises LabError for data that cannot be learned from, and where ``out`` holds a
    finished run or one with other images.
    """
    if not 0.05 <= minutes <= 24 * 60:
        raise LabError(f"minutes must be from 0.05 to 1440, found {minutes:g}.")
    folder = Path(out)
    state = read_json(folder / STATE) if (folder / STATE).exists() else {}
    if state.get("phase") == "done":
        raise LabError(f'"{folder}" holds a finished run. Give another folder.')
    if is_alive(folder):
        raise LabError(f'Another process is at work in "{folder}".')
    source = str((data.folder if isinstance(data, Project) else Path(data)).resolve())
    before = state.get("data", source) if "recipe" in state else source
    if before != source and Path(before).exists():  # else it was moved
        raise LabError(
            f'The run in "{folder}" uses the images of "{before}", not those of "{source}". Give '
            "another run folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    work = _Work(
        folder, {"minutes": minutes, "start_from": str(start_from), **state, "data": source}, say
    )
    with work.beating():
        try:
            if "recipe" not in state:
                with _unpacked(data) as given:
                    work.prepare(given, seed)
                work.measure(device)
            else:
                say(f"Continues the run in {folder}.")
            return work.train(device, workers, progress)
        except LabError as error:
            work.tell(phase="failed", problem=str(error))
            raise
        except Exception as error:
            work.tell(phase="failed", problem=f"It failed: {error!r}. See log.txt.")
            raise


class _Work:
    """One run. state: the content of ``teach.json``."""

    def __init__(self, folder: Path, state: dict[str, Any], say: Say) -> None:
        self.folder, self.state, self.say = folder, state, say
        self._since = time.monotonic()

    def tell(self, **changes: Any) -> None:
        """Updates the state and writes it."""
        self.state |= changes
        write_text(self.folder / STATE, json.dumps(self.state) + "\n")

    @contextmanager
    def beating(self) -> Iterator[None]:
        """A context that shows, by a heartbeat, that a process is at work."""
        over = threading.Event()

        def beat() -> None:
            while True:
                (self.folder / ALIVE).touch()
                if over.wait(_BEAT):
                    return

        beating = threading.Thread(target=beat, daemon=True)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()  # otherwise it might create the file once more
            for file in (ALIVE, STOP):  # a stop may have come while the images were checked
                (self.folder / file).unlink(missing_ok=True)

    # Before the training

    def prepare(self, data: str | Path | Project, seed: int) -> None:
        """Reads and splits the data, chooses the recipe and says what was found."""
        self.tell(phase="checking", problem="", began=time.time())
        notes: list[str] = []
        if isinstance(data, Project):
            project = data
        elif Project.is_one(Path(data)):
            project = Project(data)
        else:
            found = read_labelled_folder(data)
            if not any(image.labelled for image in found.images):
                said = f'"{Path(data).name}" has {len(found.images)} images and no labels.'
                advice = "Draw boxes: in the app's tab Teach, or in a notebook with srl.label."
                raise LabError(" ".join([said, *found.notes, advice]))
            self.say(f"{found.kind}: {len(found.images)} images.")
            shutil.rmtree(self.folder / "data", ignore_errors=True)  # left by a killed process
            project = Project(self.folder / "data")
            notes += project.take_over(found)
        document = project.coco()
        left_out = sum(not row["labelled"] for row in document["images"])
        if left_out:
            notes.append(
                f"{left_out} images are not labelled and left out. If one shows no objects, say so."
            )
        split = split_images(document, project.images)
        (self.folder / "images").mkdir(exist_ok=True)
        for part, ids in (("train", split.train), ("val", split.val)):
            content = project.coco(ids)
            write_text(self.folder / f"{part}.json", json.dumps(content) + "\n")
            for row in content["images"]:  # the run keeps its own, as somebody may remove one
                _link(project.images / row["file_name"], self.folder / "images" / row["file_name"])
        train, val = self.open()
        plan = make_plan(read_checkpoint(locate(self.state["start_from"])), train, val, seed)
        notes += [split.note] if split.note else []
        looked = check(
            train, val, proposals=plan.recipe.model.num_proposals, images=False, progress=False
        )
        notes += [str(odd) for odd in looked.findings if odd.kind != "category"]
        self.tell(
            recipe=configs.to_dict(plan.recipe),
            reasons=plan.reasons,
            notes=[*dict.fromkeys((*notes, *plan.warnings))],
            classes=list(train.class_names),
            num_train=len(train),
            num_val=len(val),
        )
        for note in self.state["notes"]:
            self.say(f"note: {note}")
        self.say(f"Learns from {'; '.join(plan.reasons)}. Held out: {len(val)} images.")

    def open(self) -> tuple[CocoFolder, CocoFolder]:
        """The training and the held-out images; both data sets know all classes."""
        images = self.folder / "images"
        train, val = (
            CocoFolder(self.folder / f"{part}.json", part, images=images)
            for part in ("train", "val")
        )
        return train, val

    def measure(self, device: str | None) -> None:
        """Times a few steps and sets their number, so that all of it takes the given minutes."""
        self.tell(phase="measuring")
        recipe, (train, val) = self.recipe(), self.open()
        place = pick_device(device)
        seconds, look = self._timed(recipe, train, val, place)
        judging = 2 * look * max(1, min(len(val), JUDGED_IMAGES) / WATCHED_IMAGES)
        spent = time.monotonic() - self._since
        budget = _MARGIN * (60 * self.state["minutes"] - spent - judging)
        evaluations = min(EVALUATIONS, max(2, int(0.15 * budget / look)))
        steps = steps_within(
            budget - evaluations * look, seconds, len(train), recipe.train.batch_size
        )
        recipe = configs.with_changes(
            recipe,
            train__steps=steps,
            train__warmup_steps=min(recipe.train.warmup_steps, max(1, steps // 8)),
        )
        every = max(1, math.ceil(steps / evaluations))
        self.tell(recipe=configs.to_dict(recipe), steps=steps, evaluate_every=every)
        self.say(f"{steps} steps of about {seconds:.2f} s.")

    def _timed(
        self, recipe: Recipe, train: CocoFolder, val: CocoFolder, device: str
    ) -> tuple[float, float]:
        """The average seconds of a step, and those of one evaluation of the held-out images."""
        place = torch.device(device)
        share, probe = recipe.train.progressive_resizing, _PROBE + 1
        short = configs.with_changes(
            recipe, train__steps=2 * probe, train__progressive_resizing=0.5 if share else 0.0
        )
        with threads_for(recipe.model.backbone):
            start = self.state["start_from"]
            threads = _threads(device)
            training = begin(
                short, place, start_from=start, names=train.class_names, threads=threads
            )
            detector = Detector(training.model, train.class_names)
            self._watch(0, detector, self.watched(val))
            began = time.monotonic()
            detector.trace(val[0].image)
            once = time.monotonic() - began
            training.connect()
            training.model.train()
            augment = Augment(recipe.augment, recipe.model.input.antialias)
            loader = train_loader(
                _Kept(train), augment, short.train, recipe.model.input, 0, 2 * probe, 0
            )
            marks = [time.monotonic()]
            with closing(iter(loader)) as batches:
                for step, batch in enumerate(batches):
                    train_step(training, batch.to(place), batch.targets.counts, step, 1e-6)
                    marks.append(time.monotonic())
        small, full = np.median(np.diff(marks).reshape(2, probe)[:, 1:], axis=1)
        seconds = float(share * small + (1 - share) * full)
        return seconds, once * min(len(val), WATCHED_IMAGES) + 0.5

    # The training

    def recipe(self) -> Recipe:
        """The recipe that was chosen."""
        return configs.from_dict(Recipe, self.state["recipe"])

    def train(self, device: str | None, workers: int | None, progress: bool) -> Taught:
        """Trains, or continues the training, then judges the detector."""
        if "steps" not in self.state:  # it was killed while it measured
            self.measure(device)
        train, val = self.open()
        device = pick_device(device)
        self.tell(phase="training", training_since=time.time(), device=device, problem="")
        sample = self.watched(val)
        limit = 60 * self.state["minutes"] * PATIENCE
        began, cpu = time.monotonic(), sum(os.times()[:4])
        late = False

        def step(number: int, loss: StepLoss) -> None:
            nonlocal late
            late = time.monotonic() - began > limit
            main = threading.current_thread() is threading.main_thread()
            if main and (late or (self.folder / STOP).exists()):
                signal.raise_signal(signal.SIGINT)  # fit then saves everything and ends

        def evaluated(number: int, result: Evaluation) -> None:
            # By its file, since a folder may have the name of a shipped model.
            self._watch(number, load(RunFolder(self.folder).model), sample)

        threads = _threads(device)
        if workers is None:
            workers = 0 if threads > 1 else min(1, (os.cpu_count() or 1) - 1)
        run = fit(
            _Kept(train),
            self.recipe(),
            self.folder,
            val=val,
            start_from=self.state["start_from"],
            device=device,
            workers=workers,
            threads=threads,
            evaluate_every=self.state["evaluate_every"],
            evaluate_limit=WATCHED_IMAGES,
            resume=RunFolder(self.folder).exists(),
            progress=progress,
            on_step=step,
            on_evaluation=evaluated,
        )
        self.tell(
            phase="judging",
            seconds=round(time.monotonic() - began, 1),
            cpu_seconds=round(sum(os.times()[:4]) - cpu, 1),  # of all processes
        )
        whole = evaluate(run.detector, val, limit=JUDGED_IMAGES, progress=False)
        first = np.arange(min(len(val), JUDGED_IMAGES))
        judgement = judge(run.detector, Subset(val, first, "The first are judged", "first"), train)
        self._watch(run.step, run.detector, sample)
        self.tell(
            phase="done",
            stopped=not run.finished,
            time_over=late and not run.finished,  # it stopped by itself
            done_steps=run.step,
            judgement=judgement.to_dict(),
            ap50=[round(stage.AP50, 4) for stage in whole.per_stage],
            ap=[round(stage.AP, 4) for stage in whole.per_stage],
        )
        return Taught(self.folder, run.detector, judgement, whole, not run.finished)

    def watched(self, val: CocoFolder) -> Sample:
        """The held-out image whose proposals are shown: the one with the most objects."""
        return val[int(np.argmax(val.object_counts))]

    def _watch(self, step: int, detector: Detector, sample: Sample) -> None:
        """Adds the present last boxes of the proposals of one image."""
        trace = detector.trace(sample.image)
        scores, labels = trace.logits[-1].sigmoid().max(-1)
        line = {
            "step": step,
            "image": sample.name,
            "size": list(trace.size),
            "boxes": [[round(v, 1) for v in box] for box in trace.boxes[-1].tolist()],
            "scores": [round(score, 3) for score in scores.tolist()],
            "labels": labels.tolist(),
        }
        RunFolder(self.folder).log(WATCH.removesuffix(".jsonl"), line)


def _threads(device: str) -> int:
    """The number of threads that share each batch; one under torchrun, which shares it already."""
    can = device == "cpu" and "RANK" not in os.environ
    return min(2, os.cpu_count() or 1) if can else 1


class _Kept:
    """A data set whose decoded images stay in memory, up to a limit."""

    def __init__(self, data: CocoFolder) -> None:
        self.data = data
        self._kept: dict[int, Sample] = {}
        self._room = _KEPT_MEGABYTES * 1e6

    def __getattr__(self, name: str) -> Any:
        if name == "data":  # while it is unpickled in another process
            raise AttributeError(name)
        return getattr(self.data, name)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self.data[index]
        if sample.image.numel() <= self._room:
            self._room -= sample.image.numel()
            self._kept[index] = sample
        return sample


@contextmanager
def _unpacked(data: str | Path | Project) -> Iterator[str | Path | Project]:
    """Yields the folder into which a zip is unpacked for the time being; anything else as it is."""
    if isinstance(data, Project) or Path(data).suffix.lower() != ".zip" or Path(data).is_dir():
        yield data
        return
    with tempfile.TemporaryDirectory() as place:
        yield unpack(data, Path(place))


def _link(source: Path, target: Path) -> None:
    """Links a file under another name; copies it where the disk cannot do that."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with write_whole(target) as file:
            shutil.copyfile(source, file)
