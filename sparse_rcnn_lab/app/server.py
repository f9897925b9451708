"""The server behind the page: its port, its limits, and its safeguards."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import socket
import ssl
import sys
import tempfile
import time
import webbrowser
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sparse_rcnn_lab.app.viewer import Viewer
from sparse_rcnn_lab.core.errors import LabError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Gradio's and Teach's uploads, which have limits of their own.
UPLOADS = re.compile(r"/gradio_api/upload|/lab/teach/[^/]+/upload")


@dataclass(frozen=True)
class Address:
    """Where the page is served. share: also through a public address of Gradio.

    certfile, keyfile: PEM files for https, without which browsers on other machines allow no
    webcam.  root_path: the path under which a proxy serves the page, such as
    "/user/ada/proxy/7860", or the whole address.

    >>> Address("0.0.0.0", 8000).url
    'http://127.0.0.1:8000'
    """

    host: str = "127.0.0.1"
    port: int = 7860
    share: bool = False
    certfile: str | None = None
    keyfile: str | None = None
    root_path: str = ""

    @property
    def url(self) -> str:
        """The address for a browser on this machine."""
        shown = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        shown = f"[{shown}]" if ":" in shown else shown
        return f"http{'s' if self.certfile else ''}://{shown}:{self.port}"

    def check(self) -> None:
        """Raises LabError when the page cannot be served there."""
        check_port(self.host, self.port)
        if self.root_path and not self.root_path.startswith(("/", "http://", "https://")):
            raise LabError(
                f"--root-path must begin with / or be an address, found {self.root_path!r}."
            )
        if bool(self.certfile) != bool(self.keyfile):
            raise LabError("--ssl-certfile and --ssl-keyfile go together, but one is missing.")
        if self.certfile and self.keyfile:
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certfile, self.keyfile)
            except (OSError, ssl.SSLError) as error:
                raise LabError(
                    f'"{self.certfile}" and "{self.keyfile}" are not a certificate and its key '
                    f"({getattr(error, 'strerror', None) or error}). Both are PEM files."
                ) from None


def prepare_process() -> None:
    """Before Gradio is imported, ensures that nothing leaves this machine and files have a folder.

    The folder is private and removed when the process ends.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # A proxy for the internet must not be used between the page and this machine.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1"]))
    folder = tempfile.mkdtemp(prefix="sparse-rcnn-lab-")
    os.environ["GRADIO_TEMP_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def serve(viewer: Viewer, address: Address, people: int = 8, browser: bool = False) -> Any:
    """Opens the page and returns it, for :func:`stay`.

    people: webcams that may run at once.  browser: open a browser.  Raises LabError when the page
    cannot be served there. ::

        stay(serve(Viewer(["nano-shapes"]), Address(port=8000)))
    """
    address.check()
    if not 1 <= people <= 1000:
        raise LabError(f"--concurrency must be 1 to 1000, found {people}.")
    prepare_process()
    from starlette.middleware import Middleware
    from starlette.routing import Route

    from sparse_rcnn_lab.app import explore_tab, live_tab
    from sparse_rcnn_lab.app.page import build_page, looks
    from sparse_rcnn_lab.app.teach_tab import Teaching

    explorations = explore_tab.Explorations(viewer)
    page, opening = build_page(viewer, explorations)
    webcams = live_tab.Webcams(viewer, people)
    teaching = Teaching(viewer)
    routes = [
        Route(live_tab.PATH, webcams.answer, methods=["POST"]),
        Route(f"{explore_tab.PATH}/module.js", explorations.module),
        Route(f"{explore_tab.PATH}/{{token}}", explorations.answer, methods=["GET", "POST"]),
        *teaching.routes(),
    ]
    page.queue(default_concurrency_limit=4)
    # Gradio polls its queue a thousand times a second; polling less takes 3 % of a core, not 8.
    page._queue.sleep_when_free = 0.01
    page.launch(
        server_name=address.host,
        server_port=address.port,
        root_path=address.root_path.rstrip("/"),
        share=address.share,
        ssl_certfile=address.certfile,
        ssl_keyfile=address.keyfile,
        ssl_verify=False,  # concerns only Gradio's own check of its page
        prevent_thread_lock=True,
        quiet=True,
        **looks(),
        footer_links=[],
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        max_file_size=viewer.limits.upload_mb * 1_000_000,
        max_threads=40,
        app_kwargs={
            "middleware": [
                Middleware(BodyLimit, max_bytes=viewer.limits.body_mb * 1_000_000),
                Middleware(OwnPage, opening=opening, told=bool(address.root_path)),
            ],
            "routes": routes,
        },
        _frontend=False,  # Gradio waits three seconds for its page, then asks for share=True
    )
    behind = address.root_path and f" through the proxy that serves it under {address.root_path}"
    print(f"Open {address.url} in a browser{behind}. Ctrl+C stops it.", flush=True)
    if browser and has_display() and not behind:
        webbrowser.open(address.url)
    if page.share_url:
        print(f"For others, while this runs: {page.share_url}", flush=True)
    return page


def stay(page: Any) -> None:
    """Serves until Ctrl+C, then ends at once even if the page is still open somewhere."""
    try:
        while page.is_running:
            time.sleep(0.1)
    finally:
        page.server.force_exit = True  # else uvicorn waits for open connections, and they for it
        logging.getLogger("uvicorn.error").disabled = True  # it would print what it interrupts
        page.close(verbose=False)


def check_port(host: str, port: int) -> None:
    """Raises LabError, naming a free port, when the page cannot be served at this one."""
    if not 1 <= port <= 65535:
        raise LabError(f"--port must be 1 to 65535, found {port}.")
    try:
        _bind(host, port)
    except socket.gaierror:
        raise LabError(f"--host {host!r} is not an address of this machine.") from None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise LabError(
                f"Port {port} is reserved for the system. Choose one from 1024."
            ) from None
        free = _free_port(host, port)
        if free is None:
            raise LabError(f"Cannot serve at {host}:{port}: {error.strerror}.") from None
        raise LabError(
            f"Port {port} is in use, perhaps by another demo that still runs. Stop that one, or "
            f"add: --port {free}"
        ) from None


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":  # on Windows it would share the port, elsewhere skip TIME_WAIT
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _free_port(host: str, port: int) -> int | None:
    for candidate in range(port + 1, min(port + 100, 65536)):
        try:
            _bind(host, candidate)
        except OSError:
            continue
        return candidate
    return None


def has_display() -> bool:
    """Whether a browser window can open here; without a display a text browser would open."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class BodyLimit:
    """Refuses requests, other than uploads, with a body of more than ``max_bytes`` (HTTP 413).

    Gradio itself limits uploads only; other requests could fill the memory.
    """

    def __init__(self, app: App, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request (ASGI)."""
        if scope["type"] != "http" or UPLOADS.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.max_bytes:
            await _discard(receive, 8 * self.max_bytes)
            text = f"A request may hold up to {self.max_bytes / 1e6:.0f} MB.".encode()
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 413, "headers": headers})
            await send({"type": "http.response.body", "body": text})
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            # The body comes in pieces, without a length: close the connection.
            return {"type": "http.disconnect"} if seen > self.max_bytes else message

        await self.app(scope, counted, send)


class OwnPage:
    """Puts the app's own parts (:class:`sparse_rcnn_lab.app.page.Opening`) into Gradio's page, as
    ``launch(head=...)`` would run them only after Gradio has built everything.

    It also tells Gradio where a proxy serves the page, unless --root-path does: the browser sends
    that with everything the page requests (``Referer``). For the page itself the ``Referer`` is
    whoever links to it, and is not used.
    """

    def __init__(self, app: App, opening: Any, told: bool) -> None:
        self.app = app
        self.parts = {
            b"<head>": b"<head>" + opening.links.encode(),
            b"</head>": opening.head.encode() + b"</head>",
            b"<gradio-app": opening.body.encode() + b"<gradio-app",
        }
        self.told = told  # --root-path was given

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Passes the request on, and changes the response where it is the page."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] != "/" or scope["method"] != "GET":
            await self.app(scope if self.told else _placed(scope), receive, send)
            return
        start: Message = {}
        body = b""

        async def changed(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body", False):
                return
            whole = body
            for place, more in self.parts.items():
                whole = whole.replace(place, more, 1)
            size = (b"content-length", str(len(whole)).encode())
            headers = [one for one in start["headers"] if one[0] != b"content-length"]
            await send({**start, "headers": [*headers, size]})
            await send({"type": "http.response.body", "body": whole})

        await self.app(scope, receive, changed)


def _placed(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A request of the page, with the page's location as a proxy would state it."""
    headers = dict(scope["headers"])
    page = urlsplit(headers.get(b"referer", b"").decode("latin-1"))
    place = page.path.rpartition("/")[0]
    if not place or headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin":
        return scope
    headers[b"x-forwarded-host"] = f"{page.netloc}{place}".encode("latin-1")
    headers[b"x-forwarded-proto"] = page.scheme.encode("latin-1")
    return {**scope, "headers": list(headers.items())}


async def _discard(receive: Receive, max_bytes: int) -> None:
    """Reads a body and discards it, as a client that is cut off while sending sees no answer."""
    seen = 0
    while seen <= max_bytes:
        message = await receive()
        seen += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
