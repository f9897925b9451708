"""A page in headless Chromium for the tests: it collects what must not happen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

LAUNCH = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
SHOTS = Path(__file__).parents[1] / "build" / "screenshots"  # git leaves it alone
PATIENCE = 90_000  # milliseconds; a shared machine may be busy


@contextmanager
def open_browser(path: str, *more: str) -> Iterator[Any]:
    """A browser with ``more`` options; the caller has made sure that playwright is installed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=[*LAUNCH, *more])
        yield browser
        browser.close()


class Watched:
    """A page with the errors of its console and the requests that would leave the machine."""

    def __init__(self, browser: Any, width: int = 1280, height: int = 860, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.errors: list[str] = []
        self.strangers: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        # Gradio's client says this when a page is left before the server has answered.
        left = ("AbortError: signal is aborted", "Unexpected error Connection errored out")
        if message.type == "error" and not message.text.startswith(left):
            self.errors.append(message.text)

    def _asked(self, request: Any) -> None:
        own = request.url.startswith(("data:", "blob:", "file:", "about:"))
        if not own and urlparse(request.url).hostname not in ("127.0.0.1", "localhost"):
            self.strangers.append(request.url)

    def clean(self) -> None:
        """Asserts that nothing went wrong unseen, and closes the page."""
        assert self.errors == [], self.errors  # pytest rewrites no asserts outside test files
        assert self.strangers == [], self.strangers
        self.context.close()


def keep_shot(page: Any, name: str) -> None:
    """A screenshot for people to look at, in build/screenshots or the folder SCREENSHOTS names."""
    folder = Path(os.environ.get("SCREENSHOTS") or SHOTS)
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(folder / f"{name}.png"))
