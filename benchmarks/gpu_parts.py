"""The parts of ``benchmarks.gpu``: what each measures, its goal (on an H200) and its time limit."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.parts import ARMS
from benchmarks.training import TrainSettings, training_speed
from sparse_rcnn_lab.core.detections import top_pairs
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.pooling import assign_levels
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.data.shapes.dataset import Shapes
from sparse_rcnn_lab.data.transforms import Augment
from sparse_rcnn_lab.detect.images import make_batch
from sparse_rcnn_lab.models import recipes
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.runtime.torch_runtime import Runtime, TorchRuntime
from sparse_rcnn_lab.training.fit import begin, fit
from sparse_rcnn_lab.training.loader import TrainBatch, collate
from sparse_rcnn_lab.training.step import step_loss, train_step

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "sparse_rcnn_lab" / "data" / "examples"
Better = Literal["<=", ">="]


@dataclass(frozen=True)
class Setting:
    """device: "cuda", "cpu".  tiny: small sizes, to rehearse.  data: a COCO folder, or None."""

    device: str = "cuda"
    tiny: bool = False
    data: Path | None = None

    @property
    def cuda(self) -> bool:
        """Whether a GPU is measured."""
        return torch.device(self.device).type == "cuda"


class Report:
    """The rows of one part, each written as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(
        self, what: str, value: Any, unit: str, goal: float | None = None, better: Better = "<="
    ) -> None:
        """One number, and whether it reaches its goal."""
        met = None
        if goal is not None:
            met = bool(value <= goal if better == "<=" else value >= goal)
        wanted = None if goal is None else f"{better} {goal:g}"
        row = {"what": what, "value": value, "unit": unit, "goal": wanted, "met": met}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """An error inside becomes a row, and the part goes on."""
        try:
            yield
        except Exception as error:  # compilers and drivers raise anything
            words = str(error).strip().splitlines() or [""]
            self.add(what, f"{type(error).__name__}: {words[0][:200]}", "error")
            if self._gpu_is_lost(error):
                raise

    @staticmethod
    def _gpu_is_lost(error: Exception) -> bool:
        """After an illegal access every later call fails alike."""
        return "illegal memory access" in str(error) or "device-side assert" in str(error)


# Ways to run the stages

Call = Callable[[], list[StageOutput]]
WAYS = ("eager float32", "folded float32", "folded bf16", "graph bf16", "compiled bf16")


def way(name: str, model: SparseRCNN, images: Tensor, cuda: bool) -> Call:
    """The whole forward pass on a batch ``[B, 3, H, W]``, as one call.

    "graph": the folded runtime captured as one CUDA graph (without a GPU: the runtime itself).
    """
    kind, precision = name.split()
    runtime = TorchRuntime(
        model,
        "folded" if kind == "graph" else kind,  # type: ignore[arg-type]
        precision,  # type: ignore[arg-type]
    )
    return captured(runtime, images) if kind == "graph" and cuda else forward(runtime, images)


def forward(runtime: Runtime, images: Tensor) -> Call:
    """Pyramid and stages of a batch."""
    sizes = images.new_tensor(images.shape[2:]).expand(len(images), 2)
    boxes, features = (x.detach() for x in runtime.model.proposals(sizes))

    @torch.no_grad()
    def run() -> list[StageOutput]:
        return runtime.run_stages(runtime.pyramid(images), boxes, features)

    return run


def captured(runtime: Runtime, images: Tensor) -> Call:
    """The same, recorded as a CUDA graph: one launch in place of some thousand."""
    run = forward(runtime, images)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is made at first use must not be part of the graph
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()

    def replay() -> list[StageOutput]:
        graph.replay()
        return outputs

    return replay


def seconds(work: Callable[[], object], cuda: bool, tiny: bool) -> float:
    """Median seconds of a call, after three that warm up."""
    for _ in range(1 if tiny else 3):
        work()
    wait(cuda)
    spent: list[float] = []
    end = time.perf_counter() + (0.05 if tiny else 3.0)
    while len(spent) < 3 or (time.perf_counter() < end and len(spent) < 100):
        start = time.perf_counter()
        work()
        wait(cuda)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


def wait(cuda: bool) -> None:
    """Until the GPU has done what it was told."""
    if cuda:
        torch.cuda.synchronize()


@contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32 in products and convolutions inside."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def r50(setting: Setting, proposals: int) -> tuple[SparseRCNN, tuple[int, int]]:
    """ResNet-50 with random weights and boxes, and the input size; small where it is rehearsed."""
    name = "nano" if setting.tiny else f"r50_3x_{proposals}"
    recipe = recipes.recipe(name, model__proposal_init="random")
    torch.manual_seed(0)
    model = SparseRCNN(recipe.model).eval().to(setting.device)
    return model, (64, 96) if setting.tiny else (800, 1216)


# The parts


def parity(setting: Setting, report: Report) -> None:
    """The CPU's eager numbers and mmdetection's against each way on the device."""
    names = ("nano-shapes",) if setting.tiny else ("nano-shapes", "small-everyday")
    with exact_float32():
        for name in names:
            model = load(name, device="cpu").model
            photographs = sorted(EXAMPLES.glob("everyday_*.jpg"))[:2]
            images = make_batch(photographs, model.config.input, torch.device("cpu")).images
            wanted = [_to_cpu(output) for output in way(WAYS[0], model, images, False)()]
            model.to(setting.device)
            for kind in (*WAYS, "graph float32", "compiled float32"):
                with report.attempt(f"{name}, {kind}"):
                    found = way(kind, model, images.to(setting.device), setting.cuda)()
                    _compare(report, f"{name}, {kind}", wanted, found)
        if not setting.tiny:
            with report.attempt("published layout against mmdetection's numbers"):
                _published(report, setting)
        with report.attempt("training step"):
            _gradients(report, setting)


def _to_cpu(output: StageOutput) -> StageOutput:
    return replace(output, boxes=output.boxes.cpu(), logits=output.logits.cpu())


def _compare(
    report: Report, name: str, wanted: Sequence[StageOutput], found: Sequence[StageOutput]
) -> None:
    """Every stage in float32; in bf16 the first, since later ones pool other boxes, and drift."""
    exact = "float32" in name
    pairs = list(zip(wanted, found, strict=True))[: None if exact else 1]
    boxes = max(float((a.boxes - b.boxes.cpu()).abs().max()) for a, b in pairs)
    logits = max(float((a.logits - b.logits.cpu()).abs().max()) for a, b in pairs)
    largest = max(float(a.logits.abs().max()) for a, _ in pairs)
    stages = "all stages" if exact else "stage 1"
    report.add(f"{name}: boxes, {stages}", boxes, "px", 0.03 if exact else 2.0)
    report.add(f"{name}: logits, {stages}", logits, "", 3e-4 if exact else 0.05 * largest)


def _published(report: Report, setting: Setting) -> None:
    """The re-created weights of tests/parity: mmdetection's logits and boxes at every stage."""
    sys.path.insert(0, str(ROOT / "tests"))
    from parity import rule  # type: ignore[import-not-found]

    from sparse_rcnn_lab.models import layouts

    state = {key: torch.from_numpy(value) for key, value in rule.weights("r50_100").items()}
    recipe = recipes.recipe("r50_3x_100")
    model = SparseRCNN(recipe.model).eval()
    model.load_state_dict(layouts.rename(state, "mmdetection"))
    model.to(setting.device)
    images = [torch.from_numpy(rule.image(p)).permute(2, 0, 1) for p in rule.PICTURES]
    batch = make_batch(images, model.config.input, torch.device(setting.device), resize=False)
    reference = rule.read_arrays("forward_r50_100")
    for kind in ("eager", "folded", "compiled"):
        runtime = TorchRuntime(model, kind)
        with torch.no_grad():
            start = model.proposals(batch.sizes)
            outputs = runtime.run_stages(runtime.pyramid(batch.images), *start)
        for what, limit, unit in (("box", 0.03, "px"), ("cls", 3e-4, "")):
            given = [o.boxes if what == "box" else o.logits for o in outputs]
            error = max(
                float((x.cpu() - torch.from_numpy(reference[f"s{i}_{what}"])).abs().max())
                for i, x in enumerate(given)
            )
            report.add(f"mmdetection's numbers, {kind}: {what}, all stages", error, unit, limit)


def drawn_batch(recipe: Any, count: int, size: tuple[int, int]) -> TrainBatch:
    """Drawn images as a training batch, on the CPU."""
    data = Shapes(length=count, size=size)
    augment = Augment(replace(recipe.augment, size=size), recipe.model.input.antialias)
    return collate([augment(data[i], 0) for i in range(count)], recipe.model.input)


def _gradients(report: Report, setting: Setting) -> None:
    """Losses and gradients of one step, with denoising queries and prefixes, against the CPU's."""
    classes = len(Shapes(length=1).class_names)
    recipe = recipes.recipe("nano", model__num_classes=classes, train__nested_proposals=True)
    batch = drawn_batch(recipe, 4, (128, 128))
    seen = []
    for device in ("cpu", setting.device):
        training = begin(recipe, torch.device(device))
        loss = step_loss(
            training.model,
            batch.to(torch.device(device)),
            recipe.loss,
            denoising=3,
            generator=torch.Generator().manual_seed(0),
            contrastive=True,
            prefixes=2,
        )
        loss.total().backward()
        given = [p.grad for p in training.model.parameters() if p.grad is not None]
        seen.append((float(loss.total()), np.array([float(grad.norm()) for grad in given])))
    (wanted, norms), (found, others) = seen
    report.add("training step: loss", abs(found / wanted - 1), "relative", 1e-5)
    total = float(np.linalg.norm(others) / np.linalg.norm(norms) - 1)
    report.add("training step: gradient's norm", abs(total), "relative", 3e-3)
    worst = float(np.median(np.abs(others - norms) / np.maximum(norms, 1e-8)))
    report.add("training step: norm of a parameter's gradient, median", worst, "relative", 1e-3)


def inference(setting: Setting, report: Report) -> None:
    """Images a second, from normalised batches on the device to the best pairs."""
    large, size = r50(setting, 300)
    small = load("nano-shapes" if setting.tiny else "small-everyday", device=setting.device).model
    side = 64 if setting.tiny else 320
    cases = (
        ("R-50, 300 proposals", large, 1, size, 300.0),
        ("small-everyday", small, 1, (side, side), 500.0),
        ("R-50, 300 proposals", large, 2 if setting.tiny else 16, size, 700.0),
        ("small-everyday", small, 2 if setting.tiny else 64, (side, side), 5000.0),
    )
    for name, model, count, shape, goal in cases:
        images = torch.randn(count, 3, *shape, device=setting.device)
        best = 0.0
        for kind in WAYS:
            what = f"{name}, {shape[0]}x{shape[1]}, batch {count}, {kind}"
            with report.attempt(what), torch.no_grad():
                call = way(kind, model, images, setting.cuda)

                def detect(call: Call = call) -> None:
                    top_pairs(call()[-1].logits.float())

                rate = count / seconds(detect, setting.cuda, setting.tiny)
                best = max(best, rate)
                report.add(what, rate, "images/s")
        report.add(f"{name}, batch {count}: the fastest", best, "images/s", goal, ">=")
    if setting.cuda:
        _launches(report, large, size)


def _launches(report: Report, model: SparseRCNN, size: tuple[int, int]) -> None:
    """Where an eager forward pass spends the GPU's time, and how often the host waits for it."""
    images = torch.randn(1, 3, *size, device=model.device)
    run = way("folded float32", model, images, True)
    run()
    events = _profiled(run, 25)
    for name in ("cudaLaunchKernel", "cudaStreamSynchronize", "cudaMemcpyAsync"):
        count = sum(event.count for event in events if event.key == name)
        report.add(f"R-50, batch 1, folded: calls of {name}", count, "")


def _profiled(work: Callable[[], object], rows: int) -> Any:
    """What the processor and the GPU did in a call; prints what took longest."""
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        work()
        wait(True)
    events = profile.key_averages()
    print(events.table(sort_by="self_cuda_time_total", row_limit=rows))
    return events


def peers(setting: Setting, report: Report) -> None:
    """torchvision's and transformers' detectors with random weights, beside ours, in this run."""
    model, size = r50(setting, 300)
    for count in (1, 2 if setting.tiny else 16):
        images = torch.randn(count, 3, *size, device=setting.device)
        rates: dict[str, float] = {}
        arms: dict[str, Callable[[Tensor], Callable[[], object]]] = {
            "ours": partial(way, "graph bf16", model, cuda=setting.cuda),
            "torchvision's Faster R-CNN R-50 FPN v2": _faster,
            "transformers' DETR R-50": partial(_transformer, "Detr"),
            "transformers' RT-DETR R-50": partial(_transformer, "RTDetr"),
        }
        for name, make in arms.items():
            with report.attempt(f"{name}, batch {count}"), torch.no_grad():
                call = make(images)
                for bf16 in (False, True) if name != "ours" else (True,):
                    kind = torch.device(setting.device).type
                    mixed = torch.autocast(kind, torch.bfloat16)
                    with mixed if bf16 and name != "ours" else nullcontext():
                        rate = count / seconds(call, setting.cuda, setting.tiny)
                    precision = "bf16" if bf16 else "float32"
                    report.add(f"{name}, batch {count}, {precision}", rate, "images/s")
                    rates[name] = max(rates.get(name, 0.0), rate)
        for name, rate in rates.items():
            goal = None if name == "ours" or "RT-DETR" in name else 2.0
            ratio = rates.get("ours", math.nan) / rate
            report.add(f"ours over {name}, batch {count}, best of each", ratio, "x", goal, ">=")


def _faster(images: Tensor) -> Callable[[], object]:
    from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

    height, width = images.shape[2:]
    peer = fasterrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, min_size=height, max_size=width
    )
    peer.eval().to(images.device)
    singles = list(images.sigmoid())
    return lambda: peer(singles)


def _transformer(kind: str, images: Tensor) -> Callable[[], object]:
    import transformers  # type: ignore[import-not-found]

    options: dict[str, Any] = {"num_queries": 300 if images.shape[2] >= 320 else 50}
    if kind == "Detr":
        stages = ["stage1", "stage2", "stage3", "stage4"]
        backbone = transformers.ResNetConfig(
            out_features=stages[-1:], stage_names=["stem", *stages]
        )
        options = {"use_timm_backbone": False, "backbone": None, "use_pretrained_backbone": False}
        options["backbone_config"] = backbone
    config = getattr(transformers, f"{kind}Config")(**options)
    peer = getattr(transformers, f"{kind}ForObjectDetection")(config).eval().to(images.device)
    return lambda: peer(pixel_values=images)


def pooling(setting: Setting, report: Report) -> None:
    """One gather over the pyramid against RoIAlign level by level: six stages of 300 boxes."""
    model, size = r50(setting, 300)
    images = torch.randn(1 if setting.tiny else 4, 3, *size, device=setting.device)
    sizes = images.new_tensor(size).expand(len(images), 2)
    spent: dict[tuple[str, str], float] = {}
    with torch.no_grad():
        maps = [level.detach() for level in model.backbone(images)]
        boxes = model.proposals(sizes)[0].detach()
    levels = assign_levels(boxes)
    for arm in ARMS:
        leaves = [level.clone().requires_grad_() for level in maps]

        def run(backward: bool, arm: Any = arm, leaves: list[Tensor] = leaves) -> None:
            pyramid = arm.build(leaves)
            total = images.new_zeros(())
            for _ in range(6):
                pooled = arm.pool(pyramid, boxes, levels, model.config.roi_size)
                total = total + pooled.mean()
            if backward:
                total.backward()

        with report.attempt(arm.name):
            with torch.no_grad():
                forward_time = seconds(lambda: run(False), setting.cuda, setting.tiny)
            both = seconds(lambda: run(True), setting.cuda, setting.tiny)
            spent[arm.name, "forward"] = forward_time
            spent[arm.name, "forward and backward"] = both
            for direction in ("forward", "forward and backward"):
                value = 1000 * spent[arm.name, direction]
                report.add(f"{arm.name}, {direction}, six stages", value, "ms")
    for direction in ("forward", "forward and backward"):
        ours, theirs = (spent.get((arm.name, direction), math.nan) for arm in ARMS)
        report.add(f"one gather over RoIAlign, {direction}", ours / theirs, "x", 0.5)


def training(setting: Setting, report: Report) -> None:
    """Images a second and memory of training as it is run, batches made beforehand."""
    for name, batch, rate_goal, memory_goal in (
        ("nano" if setting.tiny else "r50_1x_100", 2 if setting.tiny else 16, 60.0, 40.0),
        ("nano" if setting.tiny else "small", 2 if setting.tiny else 64, 1500.0, None),
    ):
        for compiled in (False, True):
            what = f"{name}, batch {batch}{', compiled' if compiled else ''}"
            with report.attempt(what):
                settings = TrainSettings(
                    name, batch=batch, steps=3 if setting.tiny else 20, precision="bf16",
                    device=setting.device, compiled=compiled,
                    size=(64, 64) if setting.tiny else (800, 1216) if "r50" in name else None,
                )  # fmt: skip
                result = training_speed(settings)
                for precision, run in result["runs"].items():
                    goals = (rate_goal, memory_goal) if precision == "bf16" else (None, None)
                    rate, memory = run["images_per_second"], run["memory"]
                    report.add(f"{what}, {precision}", rate, "images/s", goals[0], ">=")
                    if memory is not None:
                        report.add(f"{what}, {precision}: memory", memory, "GB", goals[1])
                    losses = run["loss"]
                    report.add(f"{what}, {precision}: last loss", losses[-1], "")
    if setting.cuda:
        with report.attempt("profile of a training step"):
            _profile(setting, report)


def _profile(setting: Setting, report: Report) -> None:
    recipe = recipes.recipe("r50_1x_100", train__precision="bf16", model__num_classes=80)
    batch = drawn_batch(recipe, 16, (800, 1216)).to(torch.device(setting.device))
    work = begin(recipe, torch.device(setting.device))
    work.connect()
    for step in range(3):
        train_step(work, batch, batch.targets.counts, step, 1e-5)
    events = _profiled(lambda: train_step(work, batch, batch.targets.counts, 3, 1e-5), 40)
    for event in sorted(events, key=lambda e: -e.self_device_time_total)[:8]:
        report.add(f"GPU time in {event.key[:60]}", event.self_device_time_total / 1000, "ms")


def tutorial(setting: Setting, report: Report) -> None:
    """nano on drawn shapes, from nothing to its AP, as the README's first training."""
    steps = 3 if setting.tiny else 1600
    recipe = recipes.recipe("nano", train__steps=steps)
    folder = report.path.with_name("tutorial-run")
    ends: list[float] = []

    def ended(step: int, loss: object) -> None:
        if step == steps:
            wait(setting.cuda)
            ends.append(time.perf_counter())

    start = time.perf_counter()
    run = fit(
        "shapes", recipe, folder, device=setting.device, progress=False, on_step=ended,
        evaluate_limit=4 if setting.tiny else 200, workers=0 if setting.tiny else None,
    )  # fmt: skip
    report.add(f"{steps} steps of 4, start included", ends[0] - start, "s", 20.0)
    assert run.evaluation is not None
    report.add("AP at stage six", run.evaluation.per_stage[-1].AP, "", 0.6, ">=")


def processes(setting: Setting, report: Report) -> None:
    """One process on the device, two on the CPU, and a run that changes from one to the other."""
    folder = report.path.with_name("process-runs")
    steps = 4
    options = ["--data", "shapes", "--preset", "nano", "--batch-size", "4", "--workers", "0"]
    options += ["--steps", str(steps), "--evaluate-every", "0", "--set", "train.warmup_steps=2"]
    one = [sys.executable, "-m", "sparse_rcnn_lab", "train"]
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two += ["-m", "sparse_rcnn_lab", "train"]

    def train(command: list[str], name: str, device: str, *more: str) -> np.ndarray:
        out = ["--out", str(folder / name), "--device", device]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *options, *out, *more], check=True, cwd=ROOT, env=environment)
        rows = (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return np.array([json.loads(row)["loss"] for row in rows])

    with report.attempt("one process on the device"):
        wanted = train(one, "one", setting.device)
        report.add("losses", wanted.tolist(), "")

        def compare(name: str, losses: np.ndarray) -> None:
            # Rounding grows from step to step: the first is as exact as any other comparison.
            error = np.abs(losses / wanted - 1)
            report.add(f"{name}: loss of step 1", float(error[0]), "relative", 1e-5)
            report.add(f"{name}: losses of all steps", float(error.max()), "relative", 1e-2)

        with report.attempt("two processes on the CPU, gloo"):
            compare("two processes on the CPU, gloo", train(two, "two", "cpu"))
        with report.attempt("half on the device, half by two processes on the CPU"):
            cut = folder / "half"
            _first_half(setting, cut, steps)
            compare("resumed by two processes on the CPU", train(two, "half", "cpu", "--resume"))
        if setting.cuda and torch.cuda.device_count() > 1:
            with report.attempt("two processes on two GPUs, nccl"):
                compare("two processes on two GPUs, nccl", train(two, "nccl", "cuda"))


def _first_half(setting: Setting, out: Path, steps: int) -> None:
    """The run that ``processes`` makes, ended by an error after half of its steps."""

    def stop(step: int, loss: object) -> None:
        if step == steps // 2:
            raise LabError("Half of the steps are enough here.")

    recipe = recipes.recipe("nano", train__batch_size=4, train__steps=steps, train__warmup_steps=2)
    try:
        fit("shapes", recipe, out, device=setting.device, workers=0, evaluate_every=0,
            progress=False, on_step=stop)  # fmt: skip
    except LabError as error:
        print(error)


# Ways to go on training small-everyday, tried at once: what each changes.
EVERYDAY = {
    "same": (),
    "whole backbone": ("model.frozen_stages=0",),
    "among classes": ("loss.among_classes=1.0",),
}


def everyday(setting: Setting, report: Report) -> None:
    """small-everyday trained on with the photographs of ``--data``, in several ways at once, since
    one leaves the GPU idle for most of a step: as many steps as the part's time allows, by the pace
    of the first ones. Each run's weights lie in half precision beside the numbers."""
    begun = time.monotonic()
    batch, tried = (2, 3) if setting.tiny else (64, 40)

    def pace(folder: Path) -> float:
        rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        return float(np.median([row["seconds"] for row in rows[len(rows) // 2 :]]))

    first = _train_at_once(setting, report, "pace", batch, dict.fromkeys(EVERYDAY, tried))
    steps = {}
    for name, folder in first.items():
        report.add(f"{name}: images a second, all at once", batch / pace(folder), "images/s")
        left = 0.88 * (PARTS["everyday"].seconds - (time.monotonic() - begun)) - 25
        steps[name] = 4 if setting.tiny else int(left / pace(folder))
    for name, folder in _train_at_once(setting, report, "whole", batch, steps).items():
        what = f"{name}: images a second, {steps[name]} steps"
        report.add(what, batch / pace(folder), "images/s")
        with safe_open(folder / "model.safetensors", "pt") as file:
            weights = {key: file.get_tensor(key).half() for key in file.keys()}  # noqa: SIM118
            save_file(weights, folder.with_suffix(".safetensors"), file.metadata())
        last = json.loads((folder / "evaluations.jsonl").read_text().splitlines()[-1])
        for number in ("AP", "AP50"):
            report.add(f"{name}: {number}", last["stages"][-1][number], "")


def _train_at_once(
    setting: Setting, report: Report, kind: str, batch: int, steps: dict[str, int]
) -> dict[str, Path]:
    """The run folder of each way, all trained at the same time."""
    side, warmup = (64 if setting.tiny else 320), (2 if kind == "pace" or setting.tiny else 100)
    each = max(1, (os.cpu_count() or 2) // len(EVERYDAY) - 1)
    command = [sys.executable, "-m", "sparse_rcnn_lab", "train", "--data", str(setting.data)]
    command += ["--preset", "small", "--start-from", "small-everyday", "--device", setting.device]
    command += ["--precision", "bf16", "--denoising", "2", "--ema", "0.999", "--lr", "0.001"]
    command += ["--batch-size", str(batch), "--workers", "0" if setting.tiny else str(each)]
    command += ["--evaluate-every", "0"] if kind == "pace" else []
    for change in (
        f"augment.size=({side},{side})", "augment.scale=(0.5,1.8)", "augment.mosaic=0.2",
        "loss.matches_per_object=(1,)", "train.optimizer=muon", f"train.warmup_steps={warmup}",
        "train.nested_proposals=true", "train.nested_prefixes=2",
    ):  # fmt: skip
        command += ["--set", change]
    runs = {}
    for seed, (name, changes) in enumerate(EVERYDAY.items(), 11):
        folder = report.path.with_name(f"{kind}-{name.replace(' ', '-')}")
        own = [*command, "--steps", str(steps[name]), "--out", str(folder)]
        for change in (f"train.seed={seed}", *changes):
            own += ["--set", change]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        runs[name] = folder, subprocess.Popen(own, cwd=ROOT, env=environment)
    if failed := [name for name, (_, process) in runs.items() if process.wait()]:
        raise LabError(f"No training: {', '.join(failed)}. log.txt says why.")
    return {name: folder for name, (folder, _) in runs.items()}


@dataclass(frozen=True)
class Part:
    """What to run, and for how long at most."""

    run: Callable[[Setting, Report], None]
    seconds: float


PARTS = {
    "parity": Part(parity, 110),
    "inference": Part(inference, 130),
    "pooling": Part(pooling, 40),
    "training": Part(training, 110),
    "peers": Part(peers, 70),
    "tutorial": Part(tutorial, 60),
    "processes": Part(processes, 60),
    "everyday": Part(everyday, 560),
}
