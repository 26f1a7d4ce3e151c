"""onnxruntime-web, by which a browser runs a model: two files of its package on npm, never part of this project.

A site that has models for browsers hosts both itself. They are fetched once by npm's own client, by name and version,
held against the hash that stands here, and kept in the user's cache; or taken from a folder.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from atlas_schema.errors import BadConfig, NothingThere, WorkFailed
from atlas_schema.published import cache_folder
from site_builder.folders import replace
from site_builder.section import Size

NAME, VERSION = "onnxruntime-web", "1.30.0"
#: SHA-512 of the package as npm has it.
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
#: Files of the package's dist folder: the library with its loader, and the WebAssembly of operators on the CPU.
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
#: What it takes in a site, from above: the script, the WebAssembly packed by gzip, the licence.
SIZE = Size(3, 4_500_000)
LICENCE = Path(__file__).parent / "licences" / "onnxruntime-web.txt"


#: Names of both in a site, where the second is packed by gzip.
IN_SITE = ("ort.js", "ort.wasm.gz")


def runtime_files(folder: str | os.PathLike[str] | None = None) -> dict[str, bytes]:
    """The files of a site, by name, from `folder` (the package, or its dist folder) or from npm.

    Raises NothingThere where the folder lacks one; BadConfig where npm is missing; WorkFailed where it fails.
    """
    own = _from_npm() if folder is None else _packed(*_of_folder(Path(folder)))
    return own | {"LICENSE.txt": LICENCE.read_bytes()}


def _packed(script: bytes, wasm: bytes) -> dict[str, bytes]:
    return dict(zip(IN_SITE, (script, gzip.compress(wasm, 9, mtime=0)), strict=True))


def _of_folder(folder: Path) -> tuple[bytes, bytes]:
    for place in (folder, folder / "dist"):
        if all((place / name).is_file() for name in (SCRIPT, WASM)):
            return (place / SCRIPT).read_bytes(), (place / WASM).read_bytes()
    raise NothingThere(
        f"--onnxruntime-web {folder}: expected the npm package {NAME} or its dist folder, with {SCRIPT} and {WASM} in "
        f"it. `npm install {NAME}@{VERSION}` makes node_modules/{NAME}."
    )


def kept() -> bool:
    """Whether this machine's cache has it."""
    return all((_folder() / name).is_file() for name in IN_SITE)


def _folder() -> Path:
    return cache_folder("onnxruntime-web") / VERSION


def _from_npm() -> dict[str, bytes]:
    """Both files as this machine's cache keeps them; fetched where they are not there."""
    folder = _folder()
    if not kept():
        with tempfile.TemporaryDirectory() as place:
            made = _packed(*_unpacked(_fetched(Path(place))))
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            replace(folder / name, data)
    return {name: (folder / name).read_bytes() for name in IN_SITE}


def _fetched(place: Path) -> Path:
    """The package as npm hands it out, in a folder."""
    if shutil.which("npm") is None:
        raise BadConfig(
            f"--in-browser needs {NAME} {VERSION}, and npm, which fetches it, is not installed. Install node, or name "
            "a folder that holds the package: --onnxruntime-web FOLDER"
        )
    command = ["npm", "pack", f"{NAME}@{VERSION}", "--silent", "--pack-destination", str(place)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    found = list(place.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        reason = (done.stderr or done.stdout).strip()[-300:] or "it does not say why"
        raise WorkFailed(
            f"npm did not fetch {NAME}@{VERSION}: {reason}\n"
            "Connect this machine once, or name a folder that holds the package: --onnxruntime-web FOLDER"
        )
    return found[0]


def _unpacked(package: Path) -> tuple[bytes, bytes]:
    """Script and WebAssembly of a package; WorkFailed where it is not the one whose hash stands here."""
    found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise WorkFailed(
            f"npm's {NAME}@{VERSION} has the hash sha512-{found}, expected was sha512-{INTEGRITY}: it is not the "
            "package that this project was tried with, and nothing of it is used."
        )
    with tarfile.open(package) as archive:
        script, wasm = (archive.extractfile(f"package/dist/{name}") for name in (SCRIPT, WASM))
        assert script is not None
        assert wasm is not None
        return script.read(), wasm.read()
