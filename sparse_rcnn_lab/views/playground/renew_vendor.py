"""Renews ``vendor/``: onnxruntime-web from npm, checked against the registry's own checksum.

``python -m sparse_rcnn_lab.views.playground.renew_vendor 1.30.0`` calls npm, or takes the package's
``.tgz`` as a second argument. ``vendor/LICENSE`` is written by hand. This is for maintainers; users
never need it.
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


def renew(version: str, archive: Path | None = None) -> None:
    """Downloads the version, compares its checksum with npm's, and fills ``vendor/``."""
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
