"""From a handful of labelled images to a detector, without further questions.

- ``suggest``: which boxes are offered while somebody labels?
- ``plan``: which recipe fits the images, by a written rule?
- ``teaching``: check, split, train within minutes and evaluate
- ``progress``: how far is a run, for a page that asks?
- ``judgement``: what does the detector do well and badly, in words?

This room is above the rest of ``training``: it may also import ``analysis``, which judges
detections.
"""
