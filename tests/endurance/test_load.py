"""A class on one app: 28 clients with good and bad requests, four webcams, and then Ctrl+C.

Slow (``pytest -m slow tests/endurance/test_load.py -s`` prints the figures): a minute, or as many
seconds as ``SPARSE_RCNN_LAB_LOAD`` says; docs/reliability.md has those of ten minutes.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import pytest
from app_models import free_port
from test_app_api import ask, call

from sparse_rcnn_lab.app.downloads import as_jpeg
from sparse_rcnn_lab.app.user_inputs import EXAMPLES, draw_sample

pytest.importorskip("gradio")
client_module = pytest.importorskip("gradio_client")

SECONDS = float(os.environ.get("SPARSE_RCNN_LAB_LOAD", "60"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 300),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc"),
]
ROOT = Path(__file__).parents[2]
STATE = json.dumps(["nano-shapes", 20, 6, 0.3, "detections", []])


class Class:
    """What the clients saw."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stop = threading.Event()
        self.good: list[float] = []  # seconds that each took
        self.frames: dict[str, int] = {}
        self.bad = 0
        self.wrong: list[str] = []  # what must be empty

    def webcam(self, name: str) -> None:
        frame = as_jpeg(draw_sample("normal", seed=len(name))[0].resize((640, 480)))
        query = urllib.parse.urlencode({"who": name, "state": STATE})
        self.frames[name] = 0
        while not self.stop.is_set():
            status, answer = self.post(query, frame)
            if status != 200 or not answer.startswith(b"\xff\xd8"):
                self.wrong.append(f"frame: {status} {answer[:80]!r}")
            self.frames[name] += 1
            time.sleep(0.2)

    def visitor(self, seed: int) -> None:
        chance = random.Random(seed)
        client = client_module.Client(self.url, verbose=False, download_files=False)
        images = sorted(map(str, EXAMPLES.glob("shapes_*.png")))
        while not self.stop.is_set():
            time.sleep(chance.uniform(0.5, 6))
            if chance.random() < 0.3:
                self.wrong += self.harm(chance.randrange(6))
                self.bad += 1
                continue
            n, image = chance.randint(1, 20), client_module.handle_file(chance.choice(images))
            begin = time.monotonic()
            try:
                _, found = client.predict(image, num_proposals=n, threshold=0.0, api_name="/photo")
                if len(found["annotations"]) != n:
                    self.wrong.append(f"{n} proposals gave {len(found['annotations'])}")
            except Exception as error:
                self.wrong.append(f"a good request failed: {error!r}")
            self.good.append(time.monotonic() - begin)

    def post(self, query: str, body: bytes) -> tuple[int, bytes]:
        return ask(f"{self.url}/lab/frame?{query}", body, {"Content-Type": "image/jpeg"})

    def harm(self, kind: int) -> list[str]:
        """One bad request; a text for each that was not refused."""
        if kind < 3:
            query = urllib.parse.urlencode({"who": "cam0", "state": STATE if kind else "{"})
            body = (b"", b"no image", b"\xff\xd8" + bytes(1000))[kind]
            status, answer = self.post(query, body)
            return [] if 400 <= status < 500 and b"problem" in answer else [f"{kind}: {status}"]
        data = (b"no json", {"data": [{"path": "/etc/passwd"}]}, {"data": {}})[kind - 3]
        status, answer = call(self.url, "photo", data)
        return [] if 400 <= status < 500 or b"event: error" in answer else [f"{kind}: {status}"]


def memory(process: subprocess.Popen[str]) -> int:
    """Megabytes of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) // 1024


def files(folder: Path) -> tuple[int, int]:
    """How many files there are, and their megabytes; they come and go."""
    count = size = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                count, size = count + 1, size + path.stat().st_size
        except FileNotFoundError:
            continue
    return count, size // 10**6


def test_a_class_of_thirty_two(tmp_path):
    port = free_port()
    # A job in the background of a script is started with Ctrl+C ignored, and would hand that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "apps/demo.py", "--no-browser", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    for line in process.stdout:
        if line.startswith("Open http"):
            break
    room = Class(f"http://127.0.0.1:{port}")
    threads = [threading.Thread(target=room.webcam, args=(f"cam{i}",)) for i in range(4)]
    threads += [threading.Thread(target=room.visitor, args=(i,)) for i in range(28)]
    for thread in threads:
        thread.start()
    sizes = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(SECONDS / 10)
        sizes.append((memory(process), *files(tmp_path)))
    room.stop.set()
    for thread in threads:
        thread.join(60)
    took = sorted(room.good)
    print(
        f"\n{SECONDS:.0f} s: {len(took)} good requests, median {statistics.median(took):.2f} s, "
        f"the slowest {took[-1]:.1f} s; {room.bad} bad ones; frames {room.frames}; "
        f"MB of memory, files, MB of files at ten moments: {sizes}"
    )
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    code = process.wait(30)
    ended = time.monotonic() - begin
    print(f"Ctrl+C took {ended:.1f} s")
    assert room.wrong == []
    assert min(room.frames.values()) > SECONDS / 10
    # Flat: the second half adds next to nothing to the first.
    assert sizes[-1][0] < 1.15 * sizes[4][0] + 20
    assert code == 0 and ended < 5
    assert list(tmp_path.glob("sparse-rcnn-lab-*")) == []
