"""A run folder written before training was rewritten goes on, and gives the same losses."""

import tarfile
from pathlib import Path

import pytest
import torch

from sparse_rcnn_lab import Recipe, Shapes, fit, load
from sparse_rcnn_lab.models import config_edit as configs
from sparse_rcnn_lab.training.run_folder import RunFolder

# Written in November 2026: nano, three of five steps, every extra on (Muon, denoising with
# negatives, nested proposals, averaged weights). The frozen backbone's weights have one size, so
# that the archive is small.
ARCHIVE = Path(__file__).parent / "data" / "run_of_version_0.1.tar.xz"
# What the unbroken run of then logged for steps 4 and 5.
LOSSES = [20.522837281227112, 19.829235911369324]
NESTED = [40.05779266357422, 40.06471252441406]
NORMS = [50.26943588256836, 47.13285446166992]


@pytest.mark.filterwarnings("ignore:The run was started with")  # another torch or numpy
def test_run_of_before_is_loaded_and_resumed(tmp_path):
    """Catches files, names of weights, or an order of the optimizer's parameters that changed."""
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11.0 to 3.11.3 have no filters.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **safely)
    folder = RunFolder(tmp_path / "run")
    recipe = configs.from_dict(Recipe, folder.header()["recipe"])
    averaged = load(folder.path).model.state_dict()["proposals.features"]
    run = fit(
        Shapes(length=12, seed=5, size=64),
        recipe,
        folder.path,
        val=Shapes(length=4, seed=6, size=64),
        resume=True,
        start_from="start.safetensors",  # as then; it is not read again
        device="cpu",
        workers=0,
        progress=False,
    )
    rows = folder.rows("metrics")
    assert run.finished and [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    for key, wanted in (("loss", LOSSES), ("nested", NESTED), ("grad_norm", NORMS)):
        assert [row[key] for row in rows[3:]] == pytest.approx(wanted, rel=1e-3), key
    # The average goes on from the saved one: two updates at a decay of about a third.
    moved = (run.detector.model.state_dict()["proposals.features"] - averaged).abs().max()
    assert 0 < moved < 0.05 and torch.isfinite(averaged).all()
