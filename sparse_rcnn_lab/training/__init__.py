"""Training and measuring: :func:`fit.fit` and :func:`evaluate.evaluate`.

Read ``fit.py`` from top to bottom; one update of the weights is ``step.py``. Public:
``fit.fit``, ``fit.Run``, ``evaluate.evaluate``, ``evaluate.Evaluation`` (all in ``srl``);
``step.step_loss``, ``loader.train_loader``, ``run_folder.RunFolder``, ``coco_metrics.coco_stats``
for other rooms. What each file answers:

- ``fit``: how is it trained, from an empty folder to a finished run?
- ``step``: what is one step's loss, and how does it change the weights?
- ``denoising``, ``nested``: which queries are trained beside the proposals?
- ``class_loss``: which losses help where images are few?
- ``optimizer``: how do AdamW, Muon and the moving average change the weights?
- ``loader``: which images does step k see?
- ``run_folder``: what is on disk, and when can it be resumed?
- ``distributed``: what do several processes tell each other?
- ``evaluate``: how good is each stage?
- ``coco_metrics``: what are the COCO metrics of given detections?
- ``score_calibration``: how often is a detection of this score right?

This room may import ``core``, ``data``, ``detect``, ``models`` and ``runtime``.
"""
