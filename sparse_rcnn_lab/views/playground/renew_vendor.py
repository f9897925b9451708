"""Renews ``vendor/``: onnxruntime-web from npm, checked against the registry's own checksum.

``python -m sparse_rcnn_lab.views.playground.renew_vendor 1.30.0`` asks npm (the command), or give
the package's ``.tgz`` as a second argument. For maintainers; users never need it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parent / "vendor"
PACKAGE = "onnxruntime-web"
MODULE, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
LICENSE = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def renew(version: str, archive: Path | None = None) -> None:
    """Fetches the version, compares its checksum with npm's, and fills ``vendor/``."""
    asked = ["npm", "view", f"{PACKAGE}@{version}", "dist.integrity"]
    integrity = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        if archive is None:
            subprocess.run(["npm", "pack", f"{PACKAGE}@{version}"], check=True, cwd=folder)
            (archive,) = Path(folder).glob("*.tgz")
        kind, _, wanted = integrity.partition("-")
        found = base64.b64encode(hashlib.new(kind, archive.read_bytes()).digest()).decode()
        if found != wanted:
            raise SystemExit(f"{archive.name} has {kind} {found}, npm says {wanted}.")
        with tarfile.open(archive) as files:
            contents = {name: _member(files, f"package/dist/{name}") for name in (MODULE, WASM)}
            said = json.loads(_member(files, "package/package.json"))
    if said["version"] != version or said["license"] != "MIT":
        raise SystemExit(f"Found {said['version']} under {said['license']}, wanted {version}, MIT.")
    module = contents[MODULE].decode().partition("//# sourceMappingURL")[0]
    (VENDOR / MODULE).write_text(module, encoding="utf-8")
    (VENDOR / f"{WASM}.gz").write_bytes(gzip.compress(contents[WASM], 9, mtime=0))
    (VENDOR / "LICENSE").write_text(LICENSE, encoding="utf-8")
    about = {
        "package": PACKAGE,
        "version": version,
        "license": "MIT",
        "source": f"https://www.npmjs.com/package/{PACKAGE}/v/{version}",
        "integrity": integrity,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    }
    (VENDOR / "SOURCE.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _member(files: tarfile.TarFile, name: str) -> bytes:
    member = files.extractfile(name)
    assert member is not None, name
    return member.read()


if __name__ == "__main__":
    renew(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
