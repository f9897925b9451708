"""Images in, Detections out: the detector around the model, reading and resizing of images.

Public names: ``Detector`` in ``detector``; ``read_image``, ``resize_image``, ``normalise_and_pad``
and the type ``ImageSource`` in ``images``; ``pick_device`` in ``device``; ``with_ground_truth``
in ``ground_truth``; ``save_trace`` and ``load_trace`` in ``trace_file``; ``write_whole``,
``write_tensors`` and ``write_text`` in ``files``.

This room may import ``core`` and ``runtime``.
"""
