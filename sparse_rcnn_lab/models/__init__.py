"""Files and names: checkpoints, the shipped and the published models, the recipes.

Public names: ``load``, ``locate`` and ``shipped_models`` in ``load``; ``Checkpoint``,
``read_checkpoint`` and ``save_checkpoint`` in ``checkpoint``; ``RECIPES`` and ``recipe`` in
``recipes``; ``RELEASES`` and ``fetch``, the five published models, in ``releases``; ``to_dict``,
``from_dict`` and ``with_changes`` for configs in ``config_edit``.

This room may import ``core``, ``detect`` and ``runtime``.
"""
