"""What the browser tests of views share."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import open_browser


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[Any]:
    """A headless browser for the tests of one file."""
    with open_browser(chromium) as one:
        yield one
