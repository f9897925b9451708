"""What the tests of the app share."""

import pytest
from app_models import checkpoint, explored, served
from browser import CAMERA, PATIENCE, Watched, open_browser

from sparse_rcnn_lab.app.viewer import Viewer


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    """A viewer with a tiny model: making it ready takes longer than most tests of it."""
    return Viewer([checkpoint(tmp_path_factory.mktemp("tiny"))], "cpu")


@pytest.fixture
def tiny(loaded):
    """The same with nothing kept yet."""
    loaded._traces.clear()
    return loaded


@pytest.fixture(scope="module")
def browser(chromium):
    """A headless browser with a camera for the tests of one file."""
    pytest.importorskip("playwright", reason="needs the dev extra: playwright")
    with open_browser(chromium, *CAMERA) as one:
        yield one


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A page with two tiny models and one that cannot be fetched, for the tests of one file."""
    folder = tmp_path_factory.mktemp("models")
    patch = pytest.MonkeyPatch()
    patch.setenv("SPARSE_RCNN_LAB_CACHE", str(folder / "cache"))
    patch.setenv("SPARSE_RCNN_LAB_WEIGHTS_URL", str(folder / "nothing"))
    models = [checkpoint(folder), checkpoint(folder, "other", ("ace", "king"), proposals=12)]
    with served([*models, "r50_3x_100"]) as address:
        yield address
    patch.undo()


@pytest.fixture(scope="module")
def opened(browser, url):
    """The page of the tests of one file."""
    watched = Watched(
        browser, 1366, 768, permissions=["camera"], accept_downloads=True, reduced_motion="reduce"
    )
    watched.page.goto(url, timeout=PATIENCE)
    explored(watched.page, "true")
    watched.page.wait_for_selector("#lab-opening", state="detached")
    yield watched
    watched.clean()


@pytest.fixture
def page(opened):
    """The same page for each test, without an error or a stranger's address in it."""
    yield opened.page
    assert opened.errors == [] and opened.strangers == []
