"""A hand with a person's pauses, and how it labels images in the app's tab Teach.

The pauses: a key 0.28 s; a pointer's way by Fitts' law, 0.1 + 0.15 log2(way / target + 1) s, to a
corner within 6 pixels, to a button or a proposal within its smaller side; 0.1 s before a button of
the mouse goes down or up; 0.7 s to look at a new image, 0.35 s to find the next object, 0.3 s to
judge a proposal. All of them vary by 15%. The hand accepts a proposal that overlaps the truth by
IoU 0.7 or more, and draws each side 2% of the object beside it. It takes the class before it draws,
as the labeller wants it; a proposal that it accepted under another name it chooses and renames.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.household import Truth
from sparse_rcnn_lab.core.boxes import iou
from sparse_rcnn_lab.core.errors import LabError

KEY, PRESS, LOOK, FIND, JUDGE = 0.28, 0.1, 0.7, 0.35, 0.3  # seconds
CORNER, NEAR, NOISE, VARIES = 6.0, 0.7, 0.02, 0.15  # pixels; IoU; shares of a side and of a pause

# All that the hand sees of the labeller, in one look.
_SIGHT = """() => {
  const { frames, at, proposals } = labTeach.state();
  const sheet = document.querySelector(".lab-panel-box .srl-sheet");
  sheet.scrollIntoViewIfNeeded();
  const { left, top, width } = sheet.getBoundingClientRect();
  const chips = [...document.querySelectorAll(".srl-class-chip")];
  const classes = chips.map((chip) => chip.querySelector("span").textContent);
  const taken = classes[chips.findIndex((chip) => chip.ariaPressed === "true")];
  const { boxes, width: wide } = frames[at];
  return { at, proposals, boxes, classes, taken, left, top, scale: width / wide };
}"""


class Hand:
    """A mouse and a few keys. at: where the pointer is, pixels of the page."""

    def __init__(self, page: Any, seed: int = 0) -> None:
        self.page, self.at = page, (640.0, 400.0)
        self.rng = np.random.default_rng(seed)

    def pause(self, seconds: float) -> None:
        """A pause of about so long."""
        self.page.wait_for_timeout(1000 * seconds * self.rng.lognormal(0, VARIES))

    def to(self, x: float, y: float, target: float) -> None:
        """The pointer's way to a target of so many pixels."""
        (x0, y0), way = self.at, math.dist(self.at, (x, y))
        seconds, began = 0.1 + 0.15 * math.log2(way / target + 1), time.monotonic()
        while (share := (time.monotonic() - began) / seconds) < 1:
            eased = share * share * (3 - 2 * share)
            self.page.mouse.move(x0 + (x - x0) * eased, y0 + (y - y0) * eased)
            self.page.wait_for_timeout(12)
        self.page.mouse.move(x, y)
        self.at = (x, y)

    def click(self, x: float, y: float, target: float) -> None:
        """There, and a click."""
        self.to(x, y, target)
        self.pause(PRESS)
        self.page.mouse.down()
        self.page.mouse.up()

    def press(self, selector: str) -> None:
        """The button that is shown of those, scrolled to where it is out of sight."""
        button = self.page.locator(selector).locator("visible=true").first
        button.scroll_into_view_if_needed()
        x, y, width, height = (button.bounding_box()[k] for k in ("x", "y", "width", "height"))
        self.click(x + width / 2, y + height / 2, min(width, height))

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From corner to corner."""
        self.to(*start, CORNER)
        self.pause(PRESS)
        self.page.mouse.down()
        self.to(*end, CORNER)
        self.pause(PRESS)
        self.page.mouse.up()

    def keys(self, *names: str) -> None:
        """Keys, one after the other."""
        for name in names:
            self.pause(KEY)
            self.page.keyboard.press(name)


class Labelling:
    """Labels images whose truth the hand sees. accepted, drawn: boxes.  per_minute: of both."""

    def __init__(self, hand: Hand) -> None:
        self.hand = hand
        self.accepted = self.drawn = 0
        self.per_minute = 0.0

    def __str__(self) -> str:
        return f"{self.accepted} accepted, {self.drawn} drawn, {self.per_minute:.1f} boxes a minute"

    def all(self, truths: Sequence[Truth], first: int = 0) -> Labelling:
        """One image after the other; first: place of the first one."""
        began = time.monotonic()
        for place, truth in enumerate(truths, first):
            at = self._sight()["at"]
            if at == place - 1:
                self.hand.press("button:text-is('Next image')")
            elif at != place:
                self.hand.press(
                    f".lab-panel-box .srl-strip-of-images button:nth-child({place + 1})"
                )
            self.hand.pause(LOOK)
            self.one(truth)
        self.per_minute = 60 * (self.accepted + self.drawn) / (time.monotonic() - began)
        self.hand.page.wait_for_selector(".srl-labeller[data-saved=true]")
        frames = self.hand.page.evaluate("labTeach.state().frames")
        for place, truth in enumerate(truths, first):
            made = [one["name"] for one in frames[place]["boxes"]]
            if sorted(made) != sorted(name for name, _ in truth):
                raise LabError(f"Image {place + 1} was labelled {made}; in it are {truth}.")
        return self

    def one(self, truth: Truth) -> None:
        """The image that is shown."""
        if not truth:
            return self.hand.press("button:text-is('Nothing here')")
        offers = self._sight()["proposals"]
        shows = [shown(offer["box"], truth) for offer in offers]
        right = {
            k
            for k, o in zip(shows, offers, strict=True)
            if k is not None and o["name"] == truth[k][0]
        }
        if len(right) == len(offers) > 1:
            self.hand.pause(JUDGE * len(right))
            self.hand.press("button:text-matches('^Accept all')")
            self.accepted += len(right)
        else:
            right = set()
        for k in range(len(truth)):
            if k not in right:
                self.hand.pause(FIND)
                self._box(k, truth)
        return None

    def _sight(self) -> dict[str, Any]:
        sight: dict[str, Any] = self.hand.page.evaluate(_SIGHT)
        return sight

    def _box(self, k: int, truth: Truth) -> None:
        sight, (name, (x1, y1, x2, y2)) = self._sight(), truth[k]
        scale, width, height = sight["scale"], x2 - x1, y2 - y1
        found = clickable(k, truth, sight["proposals"], sight["boxes"])
        if found is not None:
            (x, y), offered = found
            self.hand.pause(JUDGE)
            if not offered:
                self._take(name)
            target = 0.7 * min(width, height) * scale
            self.hand.click(sight["left"] + scale * x, sight["top"] + scale * y, target)
            if offered and offered != name:
                self.hand.keys("Enter")  # chooses it
                self._take(name)
                self.hand.keys("Escape")  # lets it go, else the next class would be its
            self.accepted += 1
            return
        self._take(name)
        beside = self.hand.rng.normal(0, NOISE, 4) * (width, height, width, height)
        near = 12 / scale
        a, b, c, d = (truth[k][1] + beside).tolist()
        a, b = max(a, 3 / scale), max(b, 3 / scale)  # a drag begins on the image
        if any(
            u - near < a < w + near and v - near < b < h + near
            for u, v, w, h in (o["box"] for o in sight["boxes"])
        ):
            self.hand.keys("Escape")  # else the drag would move the box drawn last
        corners = [
            (sight["left"] + scale * x, sight["top"] + scale * y) for x, y in ((a, b), (c, d))
        ]
        self.hand.drag(*corners)
        self.drawn += 1

    def _take(self, name: str) -> None:
        """Takes a class, a new one by typing it: for the box that was chosen, else the next one."""
        sight = self._sight()
        if name not in sight["classes"]:
            self.hand.keys("n", *name, "Enter")
        elif sight["taken"] != name:
            self.hand.keys(str(sight["classes"].index(name) + 1))


def shown(box: Sequence[float], truth: Truth) -> int | None:
    """The object that a proposal shows well enough, by its place in ``truth``."""
    overlap = iou(torch.tensor([list(box)]), torch.tensor([list(own) for _, own in truth]))[0]
    best = int(overlap.argmax())
    return best if overlap[best] >= NEAR else None


def clickable(
    k: int, truth: Truth, proposals: Sequence[dict[str, Any]], boxes: Sequence[dict[str, Any]]
) -> tuple[tuple[float, float], str] | None:
    """Where a click accepts a proposal of object k, and its name: of all boxes there the smallest
    gets it.
    """
    every = [one["box"] for one in (*proposals, *boxes)]
    area = [(b[2] - b[0]) * (b[3] - b[1]) for b in every]
    for row, proposal in enumerate(proposals):
        if shown(proposal["box"], truth) != k:
            continue
        x1, y1, x2, y2 = proposal["box"]
        for u, v in ((0.5, 0.5), (0.3, 0.3), (0.7, 0.7), (0.3, 0.7), (0.7, 0.3)):
            x, y = x1 + u * (x2 - x1), y1 + v * (y2 - y1)
            under = [i for i, b in enumerate(every) if b[0] <= x <= b[2] and b[1] <= y <= b[3]]
            if min(under, key=area.__getitem__) == row:
                return (x, y), proposal["name"]
    return None
