"""From a handful of labelled images to a detector, with nothing asked but the images.

- ``suggest``: which boxes to offer while somebody labels
- ``plan``: which recipe, by a written rule
- ``teaching``: check, split, train within minutes, evaluate
- ``progress``: where a run stands, for whoever asks
- ``judgement``: what it is good and bad at, in words

Above the rest of ``training``: it may import ``analysis`` too, which judges detections.
"""
