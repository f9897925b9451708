"""The page: tabs at the left, dials and numbers at the right, and the server behind it."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request
import webbrowser

# Read when gradio is imported: nothing leaves this machine.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from sparse_rcnn_lab.app.bench import Bench, Dials
from sparse_rcnn_lab.app.dials import build_dials
from sparse_rcnn_lab.app.photo import PhotoTab
from sparse_rcnn_lab.app.theme import CSS, theme
from sparse_rcnn_lab.errors import LabError

TITLE = "Sparse R-CNN lab"
LEAD = "A fixed set of learned proposals becomes detections in six stages. Turn the proposals down."
THRESHOLD = 0.3


def build_page(bench: Bench) -> gr.Blocks:
    """The page for the bench's models; ``launch`` of what it returns opens it."""
    detector = bench.detector(bench.models[0])
    start = Dials(bench.models[0], detector.num_proposals, detector.num_stages, THRESHOLD)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 3600)) as page:
        gr.HTML(f"<h1>{TITLE}</h1><p>{LEAD}</p>", elem_id="lab-head", padding=False)
        with gr.Row(elem_id="lab-page"):
            with gr.Column(scale=3, min_width=320, elem_id="lab-left"):
                photo = PhotoTab(bench, start)
            with gr.Column(scale=2, min_width=300, elem_id="lab-right"):
                readout = gr.HTML(photo.first_readout, elem_id="lab-numbers", padding=False)
                with gr.Group(elem_id="lab-dials"):
                    dials = build_dials(bench, start)
                table = gr.HTML(photo.first_table, elem_id="lab-list", padding=False)
        photo.connect(dials, readout, table)
    return page


def serve(
    bench: Bench,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    browser: bool = False,
    block: bool = True,
) -> gr.Blocks:
    """Opens the page at http://host:port and, with ``block``, stays until Ctrl+C.

    share: also through a public address of Gradio's, which needs internet. browser: open one.
    Raises LabError when the port is taken.
    """
    check_port(host, port)
    # A proxy meant for the internet must not come between the page and this machine.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1"]))
    page = build_page(bench)
    page.queue(default_concurrency_limit=4)
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        quiet=True,
        theme=theme(),
        css=CSS,
        footer_links=[],
        enable_monitoring=False,
        run_history=False,
        ssr_mode=False,
        max_file_size="100mb",
        # Gradio gives its own page three seconds and then asks for share=True; see _wait_for.
        _frontend=False,
    )
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    _wait_for(f"http://{shown}:{port}/")
    print(f"Open http://{shown}:{port} in a browser. Ctrl+C stops it.", flush=True)
    if browser and has_display():
        webbrowser.open(f"http://{shown}:{port}")
    if page.share_url:
        print(f"For others, while this runs: {page.share_url}", flush=True)
    if block:
        page.block_thread()
    return page


def _wait_for(url: str, seconds: float = 120) -> None:
    """Waits until the page answers, which a busy machine may need its time for."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + seconds
    while True:
        try:
            direct.open(url, timeout=max(1.0, end - time.monotonic())).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise LabError(
                    f"The page at {url} did not answer within {seconds:.0f} s ({error}). Try again "
                    "when the machine is less busy."
                ) from None
            time.sleep(0.2)


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
        if sys.platform != "win32":  # there it would share the port; elsewhere it skips TIME_WAIT
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
    """Whether a browser window can open here; without a screen a text browser would."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
