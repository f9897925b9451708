"""What every test gets: one thread, fixed seeds, no network, and a browser where there is one."""

from __future__ import annotations

import gc
import os
import random
import shutil
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

# Before torch is imported. One thread a worker: pytest-xdist shares the cores out, and float32
# sums then come in the same order on every machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import numpy as np
import pytest
import torch
from browser import open_browser
from hypothesis import settings
from scripted import GreyImages, ant_detector, ant_images

from sparse_rcnn_lab import Detector

if TYPE_CHECKING:
    from sparse_rcnn_lab.course.classroom.course_folder import Course

# No deadline: a busy machine is not a bug. Derandomised: a failure seen once is seen again.
settings.register_profile("lab", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("lab")

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


# What is collected stays to the end: looking through it for garbage takes a third of that time.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# The longest files, first: a worker is given a file at a time, and one of these at the end keeps
# the others waiting.
LONGEST = (
    *("test_notebooks", "test_classroom", "test_distributed", "test_engines", "test_parity"),
    *("test_explorer_browser", "test_app_page", "test_examples", "test_playground", "test_checks"),
    *("test_export", "test_teach_page", "test_docs", "test_app_camera", "test_figures"),
    *("test_teach", "test_server", "test_fit", "test_phone", "test_analysis_figures", "test_fuzz"),
)


def pytest_configure() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def small_figures(monkeypatch) -> None:
    """Figures in a third of their pixels: to write them is what takes long."""
    monkeypatch.setattr("sparse_rcnn_lab.views.figures.canvas.DPI", 50)


@pytest.fixture
def ants() -> GreyImages:
    return ant_images()


@pytest.fixture
def detector() -> Detector:
    return ant_detector()


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Only this machine can be reached: what needs a download fails here and not at a reader's."""

    def local(address: Any) -> bool:
        host = address[0] if isinstance(address, tuple) else "localhost"  # a path: a Unix socket
        return str(host) in ("localhost", "::1", "0.0.0.0") or str(host).startswith("127.")

    def guarded(name: str) -> Any:
        original = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if not local(address):
                raise OSError(f"tests use no network, and this one called {address}")
            return original(self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(name))
        yield


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium or Chrome; CHROMIUM names another one.

    Without a browser the test is skipped, saying so; with CI set it is an error, so that CI cannot
    pass by leaving the browser tests out.
    """
    wanted = os.environ.get("CHROMIUM")
    for name in (wanted,) if wanted else BROWSERS:
        if found := shutil.which(name):
            return found
    message = f"no browser: looked for {wanted or ', '.join(BROWSERS)}; install Chromium"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Any]:
    """A headless browser for the tests of one file."""
    pytest.importorskip("playwright", reason="needs the dev extra: playwright")
    with open_browser(chromium) as one:
        yield one


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Course:
    """A course with one assignment; not to be changed: that takes :func:`copy_of`."""
    pytest.importorskip("jupytext", reason="needs the classroom extra: jupytext")
    pytest.importorskip("nbgrader", reason="needs the classroom extra: nbgrader")
    import classroom_class as made

    from sparse_rcnn_lab.course.classroom.build import build
    from sparse_rcnn_lab.course.classroom.course_folder import chosen

    folder = tmp_path_factory.mktemp("built") / "course"
    return build(folder, made.SOURCES, chosen(["boxes"]), "2026")


@pytest.fixture
def small_course(built, tmp_path) -> Course:
    import classroom_class as made

    return made.copy_of(built, tmp_path / "small-course")
