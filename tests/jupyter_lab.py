"""A JupyterLab of its own for a test: it serves one folder and keeps its settings elsewhere."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app_models import free_port

PATIENCE = 240  # seconds until it answers
QUERY = "token=test&reset"


@contextmanager
def jupyter_lab(folder: Path, home: Path) -> Iterator[str]:
    """Serves ``folder``; gives the start of the address of each of its files (add ``name?QUERY``).

    QUERY opens a file in a fresh workspace, signed in.
    """
    port = free_port()
    folders = {
        name: str(home / name)
        for name in (
            *("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"),
            *("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"),
        )
    }
    # Lab's news popup would cover the page and ask the network.
    settings = home / "JUPYTER_CONFIG_DIR" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True)
    news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    settings.write_text(json.dumps(news), encoding="utf-8")
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
            *(f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=test"),
            f"--ServerApp.root_dir={folder}",
        ],
        env={**os.environ, **folders},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{address}/api?{QUERY}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "JupyterLab did not start"
                assert time.monotonic() < deadline, f"JupyterLab was silent for {PATIENCE} s"
                time.sleep(0.5)
        yield f"{address}/lab/tree/"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
