"""How inference time grows with proposals, pixels, images and stages: a fitted curve each."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.clock import Clock
from benchmarks.poolings import Settings, model_of
from sparse_rcnn_lab.cli.cmd_benchmark import default_size, threads, untrained
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.detect.device import machine
from sparse_rcnn_lab.models.recipes import RECIPES
from sparse_rcnn_lab.training.run_folder import versions

# Each quantity relative to where the measurement starts.
_STEPS = {
    "proposals": (0.25, 0.5, 1, 2, 4),
    "pixels": (1, 2, 4, 8),
    "batch": (1, 2, 4, 8),
    "stages": (1, 2, 4, 6),
}


def growth(settings: Settings) -> dict[str, Any]:
    """Varies one quantity at a time; plain values that json can hold, times in milliseconds.

    The curve is ``fixed + linear * x + quadratic * x ** 2`` (quadratic for proposals alone, whose
    attention is), its coefficients not negative. ``dominates`` names the largest of the terms at
    the largest ``x``.
    """
    if settings.model not in RECIPES:
        raise LabError("Growth is measured on presets, whose sizes can be changed; give one.")
    total = sum(map(len, _STEPS.values())) * (settings.repeat + 1)
    with threads(settings.threads), tqdm(total=total, unit="run", leave=False) as bar:
        return {
            "settings": asdict(settings),
            "machine": machine(settings.device),
            "versions": versions(),
            "curves": {name: _curve(settings, name, bar) for name in _STEPS},
        }


def _curve(settings: Settings, name: str, bar: tqdm[Any]) -> dict[str, Any]:
    runs: dict[int, Callable[[], object]] = {}
    for step in _STEPS[name]:
        x, run = _run(settings, name, step)
        runs[x] = run
    seen: dict[int, list[float]] = {x: [] for x in runs}
    bar.set_description(name)
    for turn in range(settings.repeat + 1):
        for x, run in runs.items():
            clock = Clock(settings.device)
            with torch.no_grad(), clock.part("all"):
                run()
            if turn:
                seen[x].append(clock.parts["all"])
            bar.update()
    times = {x: statistics.median(values) for x, values in seen.items()}
    terms = fit(list(times), list(times.values()), quadratic=name == "proposals")
    most = max(times)
    shares = {"fixed": terms["fixed"], "linear": terms["linear"] * most}
    if "quadratic" in terms:
        shares["quadratic"] = terms["quadratic"] * most**2
    return {
        "milliseconds": {str(x): round(ms, 3) for x, ms in times.items()},
        "fit": {term: float(f"{value:.4g}") for term, value in terms.items()},
        "dominates": max(shares, key=lambda term: shares[term]),
    }


def fit(x: list[int], y: list[float], quadratic: bool = False) -> dict[str, float]:
    """The curve through ``y`` over ``x`` with coefficients of at least 0, least relative error."""
    from scipy.optimize import nnls

    names = ("fixed", "linear", "quadratic") if quadratic else ("fixed", "linear")
    at, times = np.array(x, float), np.array(y)
    columns = np.stack([at**power for power in range(len(names))], axis=1) / times[:, None]
    scale = np.linalg.norm(columns, axis=0)
    found, _ = nnls(columns / scale, np.ones(len(at)))
    return dict(zip(names, (found / scale).tolist(), strict=True))


def _run(settings: Settings, name: str, step: float) -> tuple[int, Callable[[], object]]:
    recipe, _, _ = model_of(settings)
    config = recipe.model
    height, width = settings.size or default_size(recipe.model.input)
    batch = settings.batch or 1
    if name == "proposals":
        x = max(1, round(config.num_proposals * step))
        config = replace(config, num_proposals=x)
    elif name == "stages":
        x = int(step)
        config = replace(config, num_stages=x)
    elif name == "batch":
        x = batch = round(batch * step)
    else:
        # Both sides grow alike, in multiples of 32.
        height, width = (max(32, round(side * step**0.5 / 32) * 32) for side in (height, width))
        x = height * width
    model = untrained(config, settings.device)
    images = torch.randn(batch, 3, height, width, device=settings.device)
    sizes = images.new_tensor([height, width]).expand(batch, 2)
    return x, lambda: model(images, sizes)


def as_text(result: dict[str, Any]) -> str:
    """One line for each quantity."""
    lines = [f"{result['settings']['model']}, {result['machine']['cpu']}: inference, ms"]
    for name, curve in result["curves"].items():
        terms = curve["fit"]
        powers = {"fixed": "", "linear": f" x {name}", "quadratic": f" x {name}²"}
        formula = " + ".join(f"{terms[t]:.3g}{powers[t]}" for t in terms)
        points = ", ".join(f"{x}: {ms:.1f}" for x, ms in curve["milliseconds"].items())
        lines.append(f"{name:<10} {formula}; {curve['dominates']} dominates ({points})")
    return "\n".join(lines)
