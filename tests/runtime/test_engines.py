"""Every engine gives the eager model's numbers; where it cannot, one warning, and torch does."""

import copy
import logging
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from parity import rule
from small_model import PROPOSALS, STAGES, small_batch, small_model
from torch import Tensor, nn

import sparse_rcnn_lab as srl
from sparse_rcnn_lab import Ablation, LabError
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.runtime import choose, engine_runtime, engines, int8, onnx_graphs
from sparse_rcnn_lab.runtime.engine_runtime import EngineRuntime
from sparse_rcnn_lab.runtime.torch_runtime import Runtime, TorchRuntime

pytest.importorskip("onnx")
# What boxes may differ by, at every stage: trained models, and one of random weights, which
# magnifies rounding.
PIXELS, UNTRAINED = 0.01, 0.1
INSTALLED = engines.installed_engines()


@pytest.fixture(params=["onnxruntime", "openvino"])
def engine(request) -> engines.EngineName:
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory) -> Iterator[None]:
    """One cache for this file, since compiling is what takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Files that earlier tests left open are found whenever the collector runs.
        warnings.simplefilter("default", ResourceWarning)
        yield


@torch.no_grad()
def run(runtime: Runtime, images: Tensor, sizes: Tensor, count: int | None = None, **kwargs: Any):
    start = runtime.model.proposals(sizes, count)
    return runtime.run_stages(runtime.pyramid(images), *start, **kwargs)


@torch.no_grad()
def run_whole(runtime: Runtime, images: Tensor, sizes: Tensor, count: int | None = None):
    return [runtime.last_stage(images, sizes, count)]


@pytest.fixture(params=[run, run_whole])
def way(request, monkeypatch) -> Any:
    """All stages through a graph for each, and the last one through one graph of everything."""
    monkeypatch.setattr(engine_runtime, "_FEW", 1 << 60)
    return request.param


def assert_same(
    found: list[StageOutput], wanted: list[StageOutput], pixels: float = UNTRAINED
) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert (a.boxes - b.boxes).abs().max() < pixels
        assert (a.logits - b.logits).abs().max() < 2e-3
        assert (a.features - b.features).abs().max() < 5e-3
        assert torch.equal(a.levels, b.levels)
        assert (a.attention is None) == (b.attention is None)
        if a.attention is not None and b.attention is not None:
            assert (a.attention - b.attention).abs().max() < 1e-3


# small-everyday's layers, other weights
ALIKE = [pytest.param(name, marks=pytest.mark.slow) for name in ("small-cards", "small-cells")]


@pytest.mark.parametrize("name", ["nano-shapes", "small-everyday", *ALIKE])
def test_shipped_models(name, engine):
    """Catches an operator that means something else in an engine; the boxes of a batch that are
    pooled from another image; a size or a number of proposals that a graph froze."""
    detector = srl.load(name)
    fast, eager = detector.with_runtime(engine), detector.with_runtime("eager")
    folder = Path(srl.__file__).parent / "data" / "examples"
    # Its own kind: on others nano-shapes magnifies float32's rounding to 0.011 pixels.
    images = [str(path) for path in sorted(folder.glob(f"{name.split('-')[1]}_[12].*"))]
    batch = detector.prepare(images)
    count = detector.num_proposals
    pixels = 2 * PIXELS if name == "small-cells" else PIXELS  # AVX2, ONNX Runtime: 0.0106
    for chosen in (count, 1, count // 2):
        given = batch.images, batch.sizes, chosen
        assert_same(run(fast.runtime, *given), run(eager.runtime, *given), pixels)
        assert_same(run_whole(fast.runtime, *given), run_whole(eager.runtime, *given), pixels)
        batch = detector.prepare(images[-1:])
    assert fast.runtime.about() == {"runtime": engine, "precision": "float32"}
    assert repr(fast).endswith(f"{engine} float32)")
    ours, theirs = fast(images[0]), eager(images[0])
    assert ours.labels.tolist() == theirs.labels.tolist()


def test_sizes_from_the_least_to_the_largest(engine):
    """Catches a level of one pixel, and rows beyond those of a small image."""
    detector = srl.load("nano-shapes")
    tiles = srl.Shapes(length=1)[0].image.repeat(1, 7, 11)
    eager, fast = (detector.with_runtime(name).runtime for name in ("eager", engine))
    # Each stage from what entered the eager one: on images so unlike those of its training the
    # model magnifies rounding, its own in float32 against float64 to 1 pixel and more.
    for height, width in ((32, 32), (33, 1333), (800, 64)):
        batch = detector.prepare([tiles[:, :height, :width]], resize=False)
        given = batch.images, batch.sizes
        with torch.no_grad():
            pyramid, (boxes, features) = fast.pyramid(given[0]), fast.model.proposals(given[1])
            for stage, wanted in enumerate(run(eager, *given, record=["attention"])):
                how = {"start": stage, "stop": stage + 1, "record": ["attention"]}
                assert_same(fast.run_stages(pyramid, boxes, features, **how), [wanted], PIXELS)
                boxes, features = wanted.boxes, wanted.features


@pytest.fixture(scope="module")
def recreated(tmp_path_factory) -> SparseRCNN:
    """R-50 with 100 proposals and the weights by rule, whose numbers mmdetection has given."""
    state = {key: torch.from_numpy(value) for key, value in rule.weights("r50_100").items()}
    path = tmp_path_factory.mktemp("rule") / "rule.pth"
    torch.save({"state_dict": state}, path)
    return srl.load(path).model


@pytest.mark.slow  # making its 106 million weights takes longer than using them
def test_recreated_r50(recreated, engine):
    """Catches what only the published architecture has: bottlenecks, max pooling, 80 classes."""
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[96.0, 128.0], [90.0, 100.0]])
    given = images, sizes
    fast = EngineRuntime(recreated, engine)
    assert_same(run(fast, *given), run(TorchRuntime(recreated, "eager"), *given), PIXELS)
    assert fast.about()["runtime"] == engine


def test_attention_that_sees_overlap(engine, way):
    """Catches an overlap that a graph works out otherwise, or of boxes of another stage."""
    model = small_model(overlap_attention=8.0)
    fast, eager = EngineRuntime(model, engine), TorchRuntime(model, "eager")
    given = small_batch()
    for count in (PROPOSALS, 1):
        assert_same(way(fast, *given, count), way(eager, *given, count))
    last = run(eager, *given)[1]
    with torch.no_grad():
        pyramid, rest = fast.pyramid(given[0]), (last.boxes, last.features)
        how = {"start": 2, "confidence": last.logits.amax(-1)}
        assert_same(fast.run_stages(pyramid, *rest, **how), eager.run_stages(pyramid, *rest, **how))
        with pytest.raises(LabError, match="needs the confidence with which"):
            fast.run_stages(pyramid, *rest, start=2)
    assert fast.about()["runtime"] == engine


def test_stages_from_to_and_again(engine):
    """Catches a start, a stop or a repeated last stage that an engine counts otherwise."""
    model = small_model()
    images, sizes = small_batch()
    fast, eager = EngineRuntime(model, engine), TorchRuntime(model, "eager")
    for start, stop in ((0, 1), (1, 3), (2, None), (3, 6)):
        how = {"start": start, "stop": stop}
        assert_same(run(fast, images, sizes, **how), run(eager, images, sizes, **how))
    for start, stop in ((-1, None), (STAGES, None), (2, 2)):
        with pytest.raises(LabError, match="start must be"):
            run(fast, images, sizes, start=start, stop=stop)


def test_what_an_engine_has_not_torch_does(engine):
    """Catches an ablation, a mask, a gradient or a recorded part that an engine passes over."""
    model = small_model()
    images, sizes = small_batch()
    fast, eager = EngineRuntime(model, engine), TorchRuntime(model, "eager")
    alone = torch.eye(PROPOSALS, dtype=torch.bool)[None, None]
    recorded = ["attention", "roi_features", "dynamic_filters", "filtered_features"]
    for how in ({"ablation": Ablation(self_attention=False)}, {"mask": alone}):
        ours, theirs = run(fast, images, sizes, **how), run(eager, images, sizes, **how)
        assert_same(ours, theirs)
        assert not torch.allclose(ours[-1].logits, run(fast, images, sizes)[-1].logits, atol=1e-3)
    ours, theirs = (run(r, images, sizes, record=recorded) for r in (fast, eager))
    assert_same(ours, theirs)
    for name in recorded:
        a, b = getattr(ours[1], name), getattr(theirs[1], name)
        assert (a - b).abs().max() < 1e-3
    outputs = fast.run_stages(fast.pyramid(images), *model.proposals(sizes))
    assert outputs[-1].logits.requires_grad
    assert fast.about()["runtime"] == engine


def test_sessions_and_traces(engine):
    """Catches edits, dropped proposals or ablations that an engine's stages do not see."""
    detector = srl.load("nano-shapes")
    sample = srl.open_data("shapes", "val")[6]
    traces = []
    for runtime in (engine, "eager"):
        session = srl.Session(detector.with_runtime(runtime), sample)
        session.edit(17, box=(10, 20, 90, 80), stage=2)
        session.drop([3, 4], stage=3)
        traces.append(session.run())
        traces.append(session.run(ablation=Ablation(freeze_boxes=True), start=4))
    for ours, theirs in zip(traces[:2], traces[2:], strict=True):
        assert (ours.boxes - theirs.boxes).abs().max() < PIXELS
        assert (ours.attention - theirs.attention).abs().max() < 1e-4
        assert torch.equal(ours.fpn_level, theirs.fpn_level)


def test_shapes_that_come_again(way, monkeypatch):
    """Catches OpenVINO's graph for fixed shapes, made beside the running one, used for others."""
    pytest.importorskip("openvino")
    model = small_model(num_stages=2)
    fast, eager = EngineRuntime(model, "openvino"), TorchRuntime(model, "eager")
    images, sizes = small_batch()
    made = []
    inside = engines._OpenVino._compile_for
    monkeypatch.setattr(
        engines._OpenVino, "_compile_for", lambda self, s: made.append(s) or inside(self, s)
    )
    for part in [slice(None)] * 4 + [slice(1)] * 2 + [slice(None)]:
        given = images[part], sizes[part]
        assert_same(way(fast, *given), way(eager, *given))
        engines._OpenVino._compiler.submit(lambda: None).result()  # all are ready
    assert len(made) == (1 if way is run_whole else 4)
    assert all(next(iter(given.values())).shape[0] == 2 for given in made)


def test_other_threads_do_not_notice_that_a_graph_is_written():
    """Catches fx, which stands behind every module of the process while it traces."""
    model = small_model()
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    sizes, eager = torch.tensor([[64.0, 96.0]]), TorchRuntime(model, "eager")
    wanted = run(eager, images, sizes)[-1].logits
    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(onnx_graphs.write_pyramid, model) for _ in range(6)]
        while not all(made.done() for made in writing):
            assert torch.equal(run(eager, images, sizes)[-1].logits, wanted)
    assert all(made.result() is not None for made in writing)


def test_visitors_at_once_and_changed_weights(engine, way):
    """Catches two threads in one request, and answers of weights that are gone."""
    model = small_model()
    fast, eager = EngineRuntime(model, engine), TorchRuntime(model, "eager")
    inputs = [
        torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(i)) for i in range(6)
    ]
    sizes = torch.tensor([[64.0, 96.0]])
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda images: way(fast, images, sizes), inputs * 3))
    for images, ours in zip(inputs * 3, found, strict=True):
        assert_same(ours, way(eager, images, sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    assert_same(way(fast, inputs[0], sizes), way(eager, inputs[0], sizes))
    twin = fast.for_model(small_model(seed=3))
    assert_same(way(twin, inputs[0], sizes), way(TorchRuntime(twin.model), inputs[0], sizes))


# --- where an engine is missing, broken, or wrong


def _spoilt_stage(model: SparseRCNN, index: int, pooled: bool = False) -> Any:
    return onnx_graphs_write_stage(model, 0, pooled)


def _spoilt_whole(model: SparseRCNN) -> Any:
    twin = copy.deepcopy(model)
    twin.stages[1] = twin.stages[0]
    return onnx_graphs_write_whole(twin)


onnx_graphs_write_stage = onnx_graphs.write_stage
onnx_graphs_write_whole = onnx_graphs.write_whole


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("missing", "import of"),
        ("broken", "GPU on fire"),
        ("unreadable", "does not run this model"),
        ("wrong", "would be wrong by"),
        ("backbone", "a layer that is not exported: Hardswish"),
        ("subclass", "are not those of the package"),
    ],
)
def test_torch_does_it(fault, said, engine, way, monkeypatch):
    """Catches a traceback, silence, a warning an image, and wrong numbers."""
    model = small_model()
    if fault == "missing":
        monkeypatch.setitem(sys.modules, engine, None)
        engines._core.cache_clear()
    elif fault == "broken":
        monkeypatch.setattr(engines, "open_onnxruntime", _on_fire)
        monkeypatch.setattr(engines, "_OpenVino", _on_fire)
    elif fault == "unreadable":
        monkeypatch.setattr(onnx_graphs, "write_bags", lambda model: b"no graph")
        monkeypatch.setattr(onnx_graphs, "write_whole", lambda model: b"no graph")
    elif fault == "wrong":
        monkeypatch.setattr(onnx_graphs, "write_stage", _spoilt_stage)
        monkeypatch.setattr(onnx_graphs, "write_whole", _spoilt_whole)
    elif fault == "backbone":
        model.backbone.body["stem"].append(nn.Hardswish())
    else:
        kind = type("Mine", (type(model.stages[0]),), {})
        model.stages[1].__class__ = kind
    images, sizes = small_batch()
    fast = EngineRuntime(model, engine)
    with warnings.catch_warnings(record=True) as said_by:
        warnings.simplefilter("always")
        found = [way(fast, images, sizes) for _ in range(2)][1]
    engines._core.cache_clear()
    lines = [str(warning.message) for warning in said_by]
    assert len(lines) == 1 and said in lines[0] and "\n" not in lines[0], lines
    assert lines[0].endswith("torch runs it.")
    assert_same(found, way(TorchRuntime(model, "eager"), images, sizes))
    assert fast.about() == {"runtime": "folded", "precision": "float32"}


def _on_fire(*_: Any, **__: Any) -> None:
    raise RuntimeError("GPU on fire\nat line 1")


def test_damaged_caches(tmp_path, monkeypatch):
    """Catches a cache that is trusted: half a file, rubbish, a folder that is a file, no home."""
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(tmp_path))
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    model = small_model(num_stages=1)
    images, sizes = small_batch()
    wanted = run(TorchRuntime(model, "eager"), images, sizes)
    eight = EngineRuntime(model, "onnxruntime", "int8", [images])
    first = run(eight, images, sizes)
    assert_same(run(EngineRuntime(model, "openvino"), images, sizes), wanted)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"int8", "openvino"}
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_same(run(EngineRuntime(model, "openvino"), images, sizes), wanted)
    again = run(EngineRuntime(model, "onnxruntime", "int8", [images]), images, sizes)
    assert torch.equal(again[0].logits, first[0].logits)
    for path in files:
        path.write_bytes(b"rubbish")
    assert_same(run(EngineRuntime(model, "openvino"), images, sizes), wanted)
    monkeypatch.setenv("SPARSE_RCNN_LAB_CACHE", str(files[0]))
    for _ in range(2):
        assert_same(run(EngineRuntime(model, "openvino"), images, sizes), wanted)
        again = run(EngineRuntime(model, "onnxruntime", "int8", [images]), images, sizes)
        assert torch.equal(again[0].logits, first[0].logits)
        for name in ("SPARSE_RCNN_LAB_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(Path, "home", _on_fire)


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="onnxruntime is not installed")
def test_int8_is_kept_and_near(engine, monkeypatch):
    """Catches int8 that is float32, ranges of nothing, and a file made at every start."""
    detector = srl.load("nano-shapes")
    sample = srl.Shapes(length=1)[0]
    eight = detector.with_runtime(engine, "int8", calibration=[sample.image])
    exact = detector(sample.image, threshold=0.3)
    found = eight(sample.image, threshold=0.3)
    assert repr(eight).endswith(f"{engine} int8)")
    assert found.names() == exact.names() and (found.scores != exact.scores).any()
    assert (found.boxes - exact.boxes).abs().max() < 3
    monkeypatch.setattr(int8, "import_module", lambda name: type("", (), {}))  # makes nothing
    again = detector.with_runtime(engine, "int8", calibration=[sample.image])
    assert np.allclose(again(sample.image, threshold=0.3).scores, found.scores)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        none = detector.with_runtime(engine, "int8", calibration=[])
        assert len(none(sample.image, threshold=0.3)) == len(exact)
    assert "needs images to measure" in str(said[0].message)


def test_quiet_in_two_threads():
    """Catches two threads, the later of which leaves the process's logging switched off."""
    first_is_in, second_is_in, first_is_out = Event(), Event(), Event()

    def first() -> None:
        with int8._quiet():
            first_is_in.set()
            second_is_in.wait(0.5)
        first_is_out.set()

    def second() -> None:
        first_is_in.wait()
        with int8._quiet():
            second_is_in.set()
            first_is_out.wait(0.5)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert logging.root.manager.disable == 0


def test_auto_follows_its_rule(monkeypatch):
    """Catches "auto" that takes what is not installed, or what has not the precision."""
    model = small_model()
    names: list[engines.EngineName] = ["onnxruntime", "openvino"]
    for installed, precision, wanted in (
        (names, "float32", "onnxruntime+openvino"),
        (names[:1], "float32", "onnxruntime"),
        (names, "int8", "onnxruntime"),
        (names[1:], "float32", "openvino"),
        (names, "bf16", "openvino"),
        (names, "auto", "folded"),
        (names[:1], "bf16", "folded"),
        ([], "float32", "folded"),
    ):
        monkeypatch.setattr(choose, "installed_engines", lambda installed=installed: installed)
        made = choose.make_runtime(model, "auto", precision)
        assert made.about()["runtime"] == wanted
    for arguments, message in (
        (("onnxruntime", "bf16"), "ONNX Runtime computes in float32, int8, found 'bf16'"),
        (("folded", "int8"), "folded runtime has no int8"),
        (("openvino", "auto"), "OpenVINO computes in float32, bf16, int8, found 'auto'"),
    ):
        with pytest.raises(LabError, match=message):
            choose.make_runtime(model, *arguments)


@pytest.mark.skipif(len(INSTALLED) < 2, reason="onnxruntime and openvino are not both installed")
@pytest.mark.parametrize("agrees", [True, False])
def test_auto_with_both(agrees, monkeypatch):
    """Catches one graph that stays with ONNX Runtime, an OpenVINO that nobody has compared with
    it, and what belongs to one size of image given to another."""
    detector = srl.load("nano-shapes", runtime="auto")
    eager = detector.with_runtime("eager").runtime
    opened, ran, right = engines.open_onnxruntime, [], engines._OpenVino._run

    def first(content: bytes, threads: int) -> engines.Graph:
        graph = opened(content, threads)

        def run(inputs: Any) -> dict[str, np.ndarray]:
            if "images" in inputs:
                ran.append("onnxruntime")
            return graph(inputs)

        return run

    def then(self: Any, *args: Any) -> dict[str, np.ndarray]:
        ran.append("openvino")
        return {name: value + (not agrees) for name, value in right(self, *args).items()}

    monkeypatch.setattr(engines, "open_onnxruntime", first)
    monkeypatch.setattr(engines._OpenVino, "_run", then)
    image = srl.Shapes(length=1)[0].image
    both = detector.runtime
    for side, turns in ((128, 4), (96, 1), (128, 2)):
        batch = detector.prepare([image[:, :side]], resize=False)
        for _ in range(turns):
            found = run_whole(both, batch.images, batch.sizes)
            engines.wait_for_compiler()
            assert_same(found, run_whole(eager, batch.images, batch.sizes), PIXELS)
    # The comparison at the start; three turns; the comparison with OpenVINO; what came then.
    late = ["openvino"] if agrees else ["onnxruntime"]
    compared = ["onnxruntime"] * 4 + ["openvino", "onnxruntime"]
    assert ran == compared + late + ["onnxruntime"] + 2 * late
    assert both.about()["runtime"] == "onnxruntime+openvino"


def test_engines_are_imported_when_asked_for(monkeypatch):
    """Catches a start that pays for an engine nobody uses; imports at the top of a file are looked
    for in test_packaging."""
    engines = ("onnx", "onnxruntime", "openvino")
    for name in engines:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert srl.load("nano-shapes", runtime="auto").runtime.about()["runtime"] == "+".join(INSTALLED)
    assert not sys.modules.keys() & set(engines)
