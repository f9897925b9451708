"""How hard the drawn shapes are: every setting, and three presets."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sparse_rcnn_lab.core.errors import LabError


@dataclass(frozen=True)
class Difficulty:
    """What makes the images easy or hard; ``Difficulty.named("easy" | "normal" | "hard")``.

    min_objects, max_objects: how many shapes an image is to have; fewer where no more fit.
    overlap: largest IoU of two boxes, 0..1.
    visible: smallest share of a shape that later ones leave visible, 0..1.
    min_size, max_size: longer side of a shape, as a share of the image's shorter side.
    tilt: largest rotation from upright, degrees.
    outside: share of a shape's side that may be beyond the image's edge, 0..0.5.
    contrast: smallest colour distance of a shape from what is under it, 0..1.
    wobble: how unsteady the hand is, 0..1.
    photo: probability of paper, pens and uneven light, rather than flat graphics, 0..1.
    texture: strength of paper, clouds and wood, 0..1.
    clutter: amount and strength of unlabelled marks, 0..1.
    noise: largest standard deviation of the sensor noise, in grey levels of 0..255.

    Raises LabError, naming the setting, for a value out of its range.

    >>> Difficulty.named("easy").max_objects
    4
    """

    min_objects: int = 1
    max_objects: int = 6
    overlap: float = 0.1
    visible: float = 0.7
    min_size: float = 0.14
    max_size: float = 0.6
    tilt: float = 40.0
    outside: float = 0.06
    contrast: float = 0.28
    wobble: float = 0.5
    photo: float = 0.55
    texture: float = 0.6
    clutter: float = 0.25
    noise: float = 8.0

    @staticmethod
    def named(name: str) -> Difficulty:
        """The preset with this name. Raises LabError for an unknown name."""
        if name not in PRESETS:
            raise LabError(
                f"Unknown difficulty {name!r} for shapes. Choose one of {', '.join(PRESETS)}, "
                "or pass a Difficulty of your own."
            )
        return PRESETS[name]

    def __post_init__(self) -> None:
        limits = {"outside": 0.5, "tilt": 180.0, "noise": 128.0, "min_size": 0.95, "max_size": 0.95}
        for field in fields(self):
            value = getattr(self, field.name)
            kind = type(field.default)
            high = 100 if kind is int else limits.get(field.name, 1.0)
            low = 0.02 if field.name == "min_size" else 0
            right_type = isinstance(value, (int, kind)) and not isinstance(value, bool)
            if not right_type or not low <= value <= high:
                raise LabError(
                    f"Difficulty.{field.name} must be a {'whole ' * (kind is int)}number from "
                    f"{low:g} to {high:g}, found {value!r}."
                )
        for name in ("objects", "size"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise LabError(
                    f"Difficulty.min_{name} ({low}) is larger than max_{name} ({high}); swap them."
                )


PRESETS = {
    "easy": Difficulty(
        max_objects=4,
        overlap=0.0,
        visible=1.0,
        min_size=0.2,
        max_size=0.5,
        tilt=15.0,
        outside=0.0,
        contrast=0.4,
        wobble=0.25,
        photo=0.4,
        texture=0.3,
        clutter=0.0,
        noise=4.0,
    ),
    "normal": Difficulty(),
    "hard": Difficulty(
        max_objects=12,
        overlap=0.35,
        visible=0.45,
        min_size=0.1,
        max_size=0.7,
        tilt=180.0,
        outside=0.25,
        contrast=0.14,
        wobble=0.9,
        photo=0.6,
        texture=1.0,
        clutter=1.0,
        noise=18.0,
    ),
}
