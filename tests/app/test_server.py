"""The script and the server: options, addresses, errors in words, a page under a sub-path."""

import asyncio
import http.client
import runpy
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from app_models import checkpoint, free_port, served
from browser import PATIENCE, Watched

from sparse_rcnn_lab import LabError
from sparse_rcnn_lab.app.server import Address, OwnPage
from sparse_rcnn_lab.app.user_inputs import EXAMPLES, read_input

gr = pytest.importorskip("gradio")
ROOT = Path(__file__).parents[2]
UNDER = "/user/ada/proxy/7860"


DEMO = str(ROOT / "apps" / "demo.py")


def test_help_names_every_option():
    """Catches a script that does not start, or an option that the guide forgets."""
    done = subprocess.run([sys.executable, DEMO, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    options = ("model", "checkpoint", "host", "port", "share", "device", "max-size", "concurrency")
    guide = (ROOT / "docs" / "app.md").read_text(encoding="utf-8")
    for option in (*options, "ssl-certfile", "ssl-keyfile", "root-path", "no-browser"):
        assert f"--{option}" in done.stdout and f"`--{option}" in guide


def test_a_busy_port_names_a_free_one(capsys, monkeypatch):
    """Catches Gradio moving to another port in silence, or a traceback."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert runpy.run_path(DEMO)["main"](["--port", str(port), "--no-browser"]) == 1
    said = capsys.readouterr().err
    assert f"Port {port} is in use" in said and "--port" in said and "Traceback" not in said


def test_addresses(tmp_path):
    """Catches a page that opens to the network by itself, and options that are taken as they are
    though nothing can be served with them."""
    assert Address().host == "127.0.0.1"
    assert Address("0.0.0.0", 1234, certfile="a", keyfile="b").url == "https://127.0.0.1:1234"
    broken = tmp_path / "cert.pem"
    broken.write_text("no certificate")
    for wrong, words in (
        ({"certfile": "a"}, "--ssl-keyfile"),
        ({"certfile": str(broken), "keyfile": str(broken)}, "PEM"),
        ({"root_path": "user/ada"}, "--root-path must begin with /"),
    ):
        with pytest.raises(LabError, match=words):
            Address(port=50_123, **wrong).check()


def test_errors_are_told_and_logged(caplog, tmp_path):
    """Catches Gradio's bare "Error" on the page, or one that leaves no word in the log."""
    from sparse_rcnn_lab.app.events import explained

    path = tmp_path / "notes.jpg"
    path.write_text("these are notes")
    with pytest.warns(UserWarning, match="notes.jpg"):  # on the page: one toast, and no more
        assert explained(read_input)(path) == gr.skip()
    with pytest.raises(gr.Error) as caught:
        explained(read_input, loud=True)(path)
    assert "notes.jpg" in caught.value.message and "JPEG or PNG" in caught.value.message

    def wrong():
        raise KeyError("boxes")

    with pytest.raises(gr.Error) as caught:
        explained(wrong, loud=True)()
    assert "KeyError" in caught.value.message and "terminal" in caught.value.message
    assert any("KeyError" in str(record.exc_info) for record in caplog.records)


@contextmanager
def proxy(port):
    """The address under which a proxy, as JupyterHub's, serves the app at ``port``, and a list of
    what it answered with an error."""
    refused = []

    class Handler(BaseHTTPRequestHandler):
        def pass_on(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            drop = ("connection", "accept-encoding")
            headers = {k: v for k, v in self.headers.items() if k.lower() not in drop}
            headers |= {"X-Forwarded-Host": self.headers["host"], "X-Forwarded-Proto": "http"}
            app = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            inside = self.path.startswith(f"{UNDER}/")
            app.request(self.command, self.path.removeprefix(UNDER), body, headers)
            answer = app.getresponse()
            # What is not under the path are the hub's own pages, which has an icon.
            status = answer.status if inside else 204 if "favicon" in self.path else 404
            if status >= 400:
                refused.append(f"{self.command} {self.path} {status}")
            self.send_response(status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.end_headers()
            while part := answer.read1(65536):
                self.wfile.write(part)
                self.wfile.flush()

        do_GET = do_POST = do_HEAD = pass_on

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{UNDER}/", refused
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def under_a_path(tmp_path_factory):
    port = free_port()
    models = [checkpoint(tmp_path_factory.mktemp("models"))]
    with served(models, port=port, root_path=UNDER), proxy(port) as place:
        yield place


@pytest.fixture(scope="module")
def untold(tmp_path_factory):
    """The same where nobody told the app of the path."""
    port = free_port()
    with served([checkpoint(tmp_path_factory.mktemp("models"))], port=port), proxy(port) as place:
        yield place


def test_endpoints_under_a_sub_path(under_a_path, tmp_path):
    """Catches calls and files that are looked for at the root of the proxy's host."""
    client_module = pytest.importorskip("gradio_client")
    url, refused = under_a_path
    client = client_module.Client(
        url, verbose=False, download_files=str(tmp_path), httpx_kwargs={"timeout": 90}
    )
    photo = client_module.handle_file(str(EXAMPLES / "shapes_1.png"))
    path, found = client.predict(photo, threshold=0.0, api_name="/photo")
    assert Path(path).is_file() and len(found["annotations"]) == 8
    assert refused == []


def test_a_link_from_elsewhere_does_not_say_where_the_page_is():
    """Catches a page that fetches its images from whoever links to it, with a full Referer."""
    seen = []

    async def app(scope, receive, send):
        seen.append(dict(scope["headers"]).get(b"x-forwarded-host"))

    own = OwnPage(app, SimpleNamespace(links="", head="", body=""), told=False)
    link = (b"referer", b"https://hub.org/user/ada/page?x=1")
    for path, *more in (
        ("/", b"cross-site"),
        ("/",),
        ("/config", b"cross-site"),
        ("/config",),
        ("/config", b"same-origin"),
    ):
        headers = [link, *((b"sec-fetch-site", site) for site in more)]
        scope = {"type": "http", "path": path, "method": "GET", "headers": headers}
        asyncio.run(own(scope, None, None))
    assert seen == [None, None, None, b"hub.org/user/ada", b"hub.org/user/ada"]


@pytest.mark.browser
@pytest.mark.parametrize("place", ["under_a_path", "untold"])
def test_the_page_under_a_sub_path(place, request, browser):
    """Catches a page that loads, and whose every action, or the camera's frames, are not found."""
    url, refused = request.getfixturevalue(place)
    watched = Watched(browser, 1280, 800, permissions=["camera"], reduced_motion="reduce")
    page = watched.page
    page.goto(f"{url}?__theme=dark", timeout=PATIENCE)
    page.wait_for_selector(".srl-canvas:visible")
    page.click("#lab-try-five")
    page.wait_for_selector(".srl-changes :text('only the first 5')")
    page.click("#lab-tab-photo-button")
    page.wait_for_selector("#lab-result img")
    page.focus("#lab-threshold input[type=range]")
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('#lab-count').innerText === '5'")
    # To the same address without a question mark, as the browser would say it.
    plain = page.request.get(f"{url}config", headers={"referer": url}).json()
    assert plain["root"].endswith(UNDER)
    page.click("#lab-tab-live-button")
    page.click("#lab-camera-on")
    page.wait_for_function("() => Number(document.querySelector('#lab-fps').innerText) > 0")
    # A script of Gradio's own, for pages in frames, is looked for where the app was told.
    lost = [one for one in refused if "iframeResizer" not in one]
    assert lost == [] and watched.strangers == []
    watched.context.close()
