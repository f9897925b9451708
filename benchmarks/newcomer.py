"""A newcomer's first afternoon with the tab Teach, in Chromium: how long, and how good.

``python -m benchmarks.newcomer``, from the repository's top; it needs the extras demo and dev, and
Chromium. A hand with a person's pauses (benchmarks/hand.py) uses the app; the webcam's pictures, of
a mug, a key ring and scissors, are drawn (benchmarks/household.py). The parts, each by ``--only``:

``session``    20 frames taken, 3 s for each, three of them without an object; boxes; a training of
               ``--minutes``; Live. Then AP50 on 30 frames of other tables, and boxes on 30 tables
               without the objects, at the threshold that Live has; and boxes a minute on ten more
               images, with the taught model's proposals and without
``labelling``  the same images with and without proposals, before any training: boxes a minute
``live``       another visitor's frames a second in Live, before a training and while one runs
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from PIL import Image

from benchmarks.hand import Hand, Labelling
from benchmarks.household import Video, scenes, write_coco
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.coco.folder import CocoFolder
from sparse_rcnn_lab.models.load import load
from sparse_rcnn_lab.training.evaluate import evaluate
from tests.browser import CAMERA, Watched, open_browser

FRAMES, WITHOUT, EACH = 20, 3, 3.0  # taken; of them without an object; seconds for each
HELD_OUT = 30
GOALS = {
    "first click to live, s": "at most 480",
    "of it Train, click to done, s": "at most 240",
    "AP50 on held-out frames": "at least 0.80",
    "boxes on frames without objects": "at most 3",
    "taught proposals against without": "at least 1.50",
    "untaught ones against without": "at least 1.50",
    "Live while another trains, share": "at least 0.50",
}


def session(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """From the first click to live, and how good it is then."""
    video = Video(folder / "camera.mjpeg", scenes(1, FRAMES - WITHOUT, WITHOUT), EACH)
    write_coco(folder / "held_out", scenes(2, HELD_OUT))
    empty = [table.frame(1.0)[0] for table in scenes(3, 0, HELD_OUT)]
    more = write_coco(folder / "more", scenes(4, 10))
    with opened(folder, video.path) as (address, browser):
        page = visit(browser, address, given.minutes)
        hand, began = Hand(page), time.monotonic()
        hand.press("#lab-tab-teach-button")
        hand.press("button:text-is('Start the camera')")
        page.wait_for_function("document.querySelector('.lab-teach-video').videoWidth > 0")
        on = time.monotonic()
        for number in range(FRAMES):
            page.wait_for_timeout(max(0, 1000 * (on + (number + 0.5) * EACH - time.monotonic())))
            page.keyboard.press("Space")
        page.wait_for_function(f"labTeach.state().frames.length === {FRAMES}")
        showed = _passed("Show", began)

        hand.press("#lab-step-box")
        (images,) = (folder / "cache" / "teach").glob("*/images")
        urls = page.evaluate("labTeach.state().frames.map((frame) => frame.url)")
        truths = [video.truth(Image.open(images / Path(url).name)) for url in urls]
        labelled = Labelling(hand).all(truths)
        boxed = _passed("Box", showed)
        print(f"    {labelled}")

        hand.press("#lab-step-train")
        hand.press(".lab-panel-train .lab-go")
        run = trained(page, ("done", "failed"), 60 * given.minutes + 1200)
        done = _passed("Train", boxed)
        steps, seconds, told = (run[key] for key in ("done_steps", "seconds", "judgement"))
        print(f"    {steps} steps in {seconds:.0f} s, {run['cpu_seconds']:.0f} CPU s")
        print("   ", "\n    ".join([told["words"], *(one["words"] for one in told["classes"])]))

        hand.press("#lab-step-use")
        hand.press(".lab-panel-use .lab-go")
        page.wait_for_selector("#lab-live-stage.lab-shown")
        live = _passed("Use", done)

        page.click("#lab-tab-teach-button")
        give(page, folder / "more" / "images", FRAMES + len(more))
        hand.press("#lab-step-box")
        print(f"  {len(more)} more images, with the taught model's proposals: ", end="", flush=True)
        taught = Labelling(hand).all(more, FRAMES)
        print(f"{taught}\n  the same without: ", end="", flush=True)
        page.context.close()
        without = visit(browser, address, given.minutes)
        without.route("**/propose", lambda route: route.fulfill(json=[]))
        without.click("#lab-tab-teach-button")
        give(without, folder / "held_out", HELD_OUT)  # labelled, so that classes need no typing
        give(without, folder / "more" / "images", HELD_OUT + len(more))
        without.click("#lab-step-box")
        drawn = Labelling(Hand(without)).all(more, HELD_OUT)
        print(drawn)

    detector = load(images.parent / "runs" / "001")
    found = evaluate(detector, CocoFolder(folder / "held_out", "val"), progress=False).per_stage[-1]
    false = sum(len(detector(image, threshold=told["threshold"]).scores) for image in empty)
    each = ", ".join(f"{name} {value:.2f}" for name, value in found.per_class_50.items())
    print(f"  held-out frames: AP {found.AP:.3f}, AP50 {found.AP50:.3f} ({each})")
    faster = taught.per_minute / drawn.per_minute
    values = (live - began, done - boxed, found.AP50, float(false), faster)
    return dict(zip(GOALS, values, strict=False))


def labelling(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Boxes a minute on the same images, without proposals and with those of the untaught model."""
    truths = write_coco(folder / "data", scenes(1, FRAMES - WITHOUT, WITHOUT))
    speeds = []
    with opened(folder) as (address, browser):
        for proposes in (False, True):
            page = visit(browser, address, given.minutes)
            if not proposes:
                page.route("**/propose", lambda route: route.fulfill(json=[]))
            page.click("#lab-tab-teach-button")
            give(page, folder / "data" / "images", FRAMES)
            page.click("#lab-step-box")
            print(f"  with{'' if proposes else 'out'} proposals: ", end="", flush=True)
            labelled = Labelling(Hand(page)).all(truths)
            print(labelled, flush=True)
            speeds.append(labelled.per_minute)
            page.context.close()
    return {"untaught ones against without": speeds[1] / speeds[0]}


def live(given: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Frames a second of another visitor's webcam, before and while a training runs."""
    write_coco(folder / "data", scenes(1, FRAMES - WITHOUT, WITHOUT))
    count = """(seconds) => new Promise((done) => {
      let frames = 0;
      document.querySelector("#lab-live").addEventListener("lab-frame", () => { frames += 1; });
      setTimeout(() => done(frames / seconds), 1000 * seconds);
    })"""
    seconds = 30 * min(1.0, given.minutes)
    with opened(folder) as (address, browser):
        one, other = (visit(browser, address, given.minutes) for _ in range(2))
        one.click("#lab-tab-teach-button")
        give(one, folder / "data", FRAMES)
        one.click("#lab-step-train")
        other.click("#lab-tab-live-button")
        other.click("#lab-camera-on")
        other.wait_for_selector("#lab-live-stage.lab-shown")
        other.wait_for_timeout(3000)
        before = other.evaluate(count, seconds)
        one.locator(".lab-panel-train .lab-go").locator("visible=true").click()
        trained(one, ("training", "failed"), 1200)
        during = other.evaluate(count, seconds)
        one.click("button:text-matches('^Stop and keep')")
        print(f"  {before:.1f} frames/s, while a training runs {during:.1f}")
    return {"Live while another trains, share": during / before}


def _passed(what: str, since: float) -> float:
    """Says how long it took until now."""
    now = time.monotonic()
    print(f"  {what}: {now - since:.0f} s", flush=True)
    return now


@contextmanager
def opened(folder: Path, camera: Path | None = None) -> Iterator[tuple[str, Any]]:
    """The app, with a cache of its own in ``folder``, and a browser with a webcam."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    if chromium is None:
        raise LabError("No Chromium was found. CHROMIUM=/path/to/it names one.")
    command = [sys.executable, "apps/demo.py", "--no-browser", "--port", str(port)]
    env = {**os.environ, "SPARSE_RCNN_LAB_CACHE": str(folder / "cache")}
    with (folder / "app.txt").open("a") as log:
        app = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with suppress(OSError), urlopen(address):
                break
            time.sleep(0.5)
        options = [f"--use-file-for-fake-video-capture={camera}"] if camera else []
        with open_browser(chromium, *CAMERA, *options) as browser:
            yield address, browser
    finally:
        app.terminate()
        app.wait(60)


def visit(browser: Any, address: str, minutes: float) -> Any:
    """A new visitor's page. minutes: what its trainings take, in place of the page's four."""
    page = Watched(browser, 1366, 768, permissions=["camera"]).page
    page.goto(address)
    page.wait_for_selector("#lab-tab-teach-button")
    data = json.dumps({"minutes": minutes})
    page.route("**/train", lambda route: route.continue_(post_data=data))
    return page


def give(page: Any, folder: Path, count: int) -> None:
    """Hands a folder's files over in Show, until there are so many images."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    page.click("#lab-step-show")
    page.set_input_files(".lab-panel-show input[type=file] >> nth=0", [str(file) for file in files])
    page.wait_for_function(f"labTeach.state().frames.length === {count}")


def trained(page: Any, phases: Sequence[str], seconds: float) -> dict[str, Any]:
    """Waits until a training is in one of these phases; how it stands."""
    page.wait_for_function(
        f"{list(phases)}.includes(labTeach.state().run?.phase)", timeout=1000 * seconds
    )
    run: dict[str, Any] = page.evaluate("labTeach.state().run")
    if run["phase"] == "failed":
        raise LabError(run["problem"])
    return run


PARTS = {"session": session, "labelling": labelling, "live": live}


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts; prints what each finds, and a table of all against the goals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.newcomer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="this part (again: and that)"
    )
    parser.add_argument("--minutes", type=float, default=4.0, help="of training (%(default)s)")
    given = parser.parse_args(arguments)
    found: dict[str, float] = {}
    for part in given.only or PARTS:
        print(f"{part}:", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found |= PARTS[part](given, Path(folder))
    for what, value in found.items():
        print(f"{what:34} {value:8.2f}   goal {GOALS[what]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
