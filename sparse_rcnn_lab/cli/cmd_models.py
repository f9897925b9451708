"""``sparse-rcnn-lab models``."""

from __future__ import annotations

import argparse
import json

from sparse_rcnn_lab.cli.common import megabytes
from sparse_rcnn_lab.models.recipes import RECIPES

HELP = """list the shipped and the published models, and the presets to train with

example:
  sparse-rcnn-lab models
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing, as the command has no options."""


def run(arguments: argparse.Namespace) -> int:
    """Prints the lists."""
    from sparse_rcnn_lab.models.checkpoint import read_checkpoint
    from sparse_rcnn_lab.models.load import CHECKPOINTS, shipped_models
    from sparse_rcnn_lab.models.releases import RELEASES, cache_folder

    names = shipped_models()
    print("models, for --model:" if names else "No model is shipped with this installation.")
    for name in names:
        path = CHECKPOINTS / f"{name}.safetensors"
        checkpoint = read_checkpoint(path)
        packed = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        classes = ", ".join(checkpoint.class_names[:6])
        more = len(checkpoint.class_names) - 6
        print(
            f"  {name:<14} AP {packed['evaluation']['stages'][-1]['AP']:.3f}, "
            f"{checkpoint.config.num_proposals} proposals, {megabytes(path)}, "
            f"finds {classes}" + (f" and {more} more" if more > 0 else "")
        )
    print(f"\npublished COCO models, for --model; downloaded at first use into {cache_folder()}:")
    for release in RELEASES.values():
        recipe = release.recipe
        kept = "in the cache" if release.cached.is_file() else "not downloaded yet"
        print(
            f"  {release.name:<14} published AP {recipe.published_ap}, {recipe.model.backbone}, "
            f"{recipe.model.num_proposals} proposals, {release.megabytes} MB, {kept}"
        )
    print("\npresets, for train --preset:")
    for recipe in RECIPES.values():
        ap_text = f" (COCO AP {recipe.published_ap})" if recipe.published_ap else ""
        print(f"  {recipe.name:<14} {recipe.summary}{ap_text}")
    return 0
