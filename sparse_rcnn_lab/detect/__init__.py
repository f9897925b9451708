"""Images in, Detections out: reading, resizing, batches, and the detector around the model.

Public: ``detector.Detector``, ``ground_truth.with_ground_truth``, ``trace_file.save_trace`` and
``load_trace``. May import: core, runtime.
"""
