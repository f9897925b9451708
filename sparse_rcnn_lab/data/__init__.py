"""Data sets: folders with COCO json, drawn shapes, and the augmentation of images for training.

Public names: ``Sample`` (of ``core.inputs``) and the protocol ``DetectionData``, which all data
sets follow, in ``sample``; ``CocoFolder``, ``open_data`` and ``open_train_val`` in ``coco.folder``;
``Shapes``, ``shapes_image`` and ``Difficulty`` in ``shapes.dataset``; ``Augment`` in
``transforms``; ``usable_images`` and ``Subset`` in ``subset``; ``check`` in ``data_check``.

This room may import ``core`` and ``detect``.
"""
