"""The app's endpoints, and what somebody cannot get out of its server."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from app_models import checkpoint, served
from PIL import Image

from sparse_rcnn_lab.app.user_inputs import EXAMPLES, Limits
from sparse_rcnn_lab.app.video import Writer, open_clip

pytest.importorskip("gradio")
client_module = pytest.importorskip("gradio_client")

PHOTO = str(EXAMPLES / "shapes_1.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def url(folder):
    models = [checkpoint(folder), checkpoint(folder, "other", proposals=5)]
    with served(models, Limits(upload_mb=2, video_seconds=3)) as address:
        yield address


@pytest.fixture(scope="module")
def client(url, tmp_path_factory):
    files = tmp_path_factory.mktemp("downloads")
    return client_module.Client(
        url, verbose=False, download_files=str(files), httpx_kwargs={"timeout": 90}
    )


def photo():
    return client_module.handle_file(PHOTO)


def test_every_tab_has_an_endpoint(client, folder, tmp_path):
    """Catches an endpoint that is missing, has no defaults, or answers with another tab's."""
    names = [model["name"] for model in client.predict(api_name="/models")]
    assert names == [str(folder / "tiny.safetensors"), str(folder / "other.safetensors")]
    path, found = client.predict(photo(), threshold=0.0, api_name="/photo")
    assert Image.open(path).size == (640, 640)
    assert found["images"][0]["width"] == 128 and len(found["annotations"]) == 8
    path, found = client.predict(photo(), num_proposals=3, threshold=0.0, stage=2, api_name="/live")
    assert Image.open(path).size == (128, 128)
    assert len(found["annotations"]) == 3 and found["milliseconds"] > 0
    *_, found = client.predict(
        photo(), threshold=0.0, other_model=names[1], other_num_proposals=4, api_name="/compare"
    )
    assert (len(found["one"]["annotations"]), len(found["two"]["annotations"])) == (8, 4)
    page = Path(client.predict(photo(), api_name="/explore"))
    assert page.suffix == ".html" and "Content-Security-Policy" in page.read_text(encoding="utf-8")
    with Writer(tmp_path / "a.mp4", 10) as writer:
        for _ in range(10):
            writer.add(Image.open(PHOTO))
    path, told = client.predict(
        client_module.handle_file(str(tmp_path / "a.mp4")), frames_per_second=5, api_name="/video"
    )
    path = path["video"] if isinstance(path, dict) else path
    assert told["frames"] == 5 and open_clip(path, Limits()).seconds == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"model": "/etc/passwd"}, "There is no model"),
        ({"threshold": 7}, "threshold must be from 0 to 1"),
        ({"show": "all"}, "show must be one of"),
        ({"classes": 3}, "classes must be a list"),
        ({"num_proposals": "many"}, "num_proposals must be a number, found 'many'"),
    ],
)
def test_wrong_values_are_answered_in_words(client, wrong, words):
    """Catches a model loaded from a path that a visitor named, and a crash without a word."""
    with pytest.raises(client_module.exceptions.AppError, match=words):
        client.predict(photo(), **wrong, api_name="/photo")


def ask(address, data=None, headers=None):
    """(status, body) of a request."""
    request = urllib.request.Request(address, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def call(url, name, data):
    """What a raw call of an endpoint is answered: (status, body of the answer or its events)."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    address = f"{url}/gradio_api/call/{name}"
    status, answer = ask(address, body, {"Content-Type": "application/json"})
    if status != 200:
        return status, answer
    return ask(f"{address}/{json.loads(answer)['event_id']}")


@pytest.mark.parametrize(
    "data", [b"no json", {"data": "no list"}, {"data": {}}, {}, {"data": [None]}]
)
def test_malformed_calls_are_refused(url, data):
    """Catches a malformed request that hangs, or is answered as if all were well."""
    status, answer = call(url, "photo", data)
    assert 400 <= status < 500 or b"event: error" in answer


def test_files_of_this_machine_stay_here(url, folder):
    """Catches any file outside the app's own folder that can be read through it."""
    secrets = ["/etc/passwd", str(folder / "tiny.safetensors"), str(Path(__file__)), PHOTO]
    ways = ["/gradio_api/file=", "/gradio_api/file=/../../../../../..", "/file=", "/assets/..", ""]
    ways += ["/gradio_api/file=%2e%2e%2f%2e%2e%2f%2e%2e", "/static/../../../../../../.."]
    for secret in secrets:
        content = Path(secret).read_bytes()[:40]
        for way in ways:
            status, answer = ask(f"{url}{way}{secret}")
            assert status >= 400 or content not in answer, way
        given = {"path": secret, "meta": {"_type": "gradio.FileData"}}
        for name, more in (("photo", {}), ("video", {}), ("photo", {"url": f"file://{secret}"})):
            status, answer = call(url, name, {"data": [{**given, **more}, None]})
            assert status >= 400 or b"event: error" in answer


def test_no_address_is_fetched_for_a_visitor(url):
    """Catches a server that asks other servers, or its own network, in a visitor's name."""
    for address in ("http://127.0.0.1:9/a.png", "http://169.254.169.254/latest/meta-data/"):
        given = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
        status, answer = call(url, "photo", {"data": [given]})
        assert status >= 400 or b"event: error" in answer


def test_large_things_are_refused(url):
    """Catches an upload, or a request that is none, that fills memory or disk."""
    large = b"x" * 3_000_000
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    status, answer = ask(f"{url}/gradio_api/upload", body + large + b"\r\n--b--\r\n", kind)
    assert status == 413, answer[:200]
    # Read to its end: who is cut off while sending never sees the answer.
    status, answer = ask(f"{url}/lab/teach/{'x' * 32}/upload?name=a.zip", 4 * large)
    assert status == 413 and b"2 MB" in answer
    for place in ("queue/join", "call/upload"):  # the second is no upload, only called so
        status, answer = ask(f"{url}/gradio_api/{place}", b"[" + b" " * 17_000_000 + b"]")
        assert status == 413 and b"16 MB" in answer


def test_what_is_switched_off(url):
    """Catches Gradio's open monitoring, and a page that loads anything from elsewhere."""
    assert ask(f"{url}/monitoring")[0] >= 400
    assert ask(f"{url}/gradio_api/monitoring")[0] >= 400
    config = json.loads(ask(f"{url}/config")[1])
    assert config["analytics_enabled"] is False
    named = {d["api_name"] for d in config["dependencies"] if d["api_visibility"] == "public"}
    assert named == {"models", "live", "photo", "video", "compare", "explore"}
