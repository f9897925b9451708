"""Training and measuring: :func:`fit.fit` and :func:`evaluate.evaluate`.

Read ``fit.py`` from top to bottom; one update of the weights is ``step.py``. Public:
``fit.fit``, ``fit.Run``, ``evaluate.evaluate``, ``evaluate.Evaluation`` (all in ``srl``);
``step.step_loss``, ``loader.train_loader``, ``run_folder.RunFolder``, ``coco_metrics.coco_stats``
for other rooms. What each file answers:

- ``fit``: how is it trained, from an empty folder to a finished run?
- ``step``: what is one step's loss, and how does it change the weights?
- ``denoising``, ``nested``: which rows train beside the proposals?
- ``optimizer``: learning rate, AdamW, Muon, the weights' moving average
- ``loader``: which images does step k see?
- ``run_folder``: what is on disk, and when may it be resumed?
- ``distributed``: what do several processes tell each other?
- ``evaluate``: how good is each stage?
- ``coco_metrics``: what are COCO's numbers of given detections?

May import ``core``, ``data``, ``detect``, ``models`` and ``runtime``.
"""
