"""Numba functions on plain arrays: no files, no Dask, no Python objects.

Compiled kernels are cached on disk in a folder that is named after the source of all of them.
Numba itself looks only at the file of the function that is called, and would go on using compiled
code of another file that has been edited or updated since.
"""

import hashlib
import importlib
import os
from pathlib import Path

import numba
import platformdirs


def source_digest(folder: Path) -> str:
    """Return 16 hexadecimal digits that change with the source of any kernel."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _import_kernels() -> None:
    folder = Path(__file__).parent
    base = numba.config.CACHE_DIR or platformdirs.user_cache_path("oectflow") / "kernels"
    before = numba.config.CACHE_DIR
    # Numba takes the folder down when a function is decorated, that is, during these imports.
    numba.config.CACHE_DIR = os.fspath(Path(base) / source_digest(folder))
    try:
        for path in sorted(folder.glob("[!_]*.py")):
            importlib.import_module(f"{__name__}.{path.stem}")
    finally:
        numba.config.CACHE_DIR = before


_import_kernels()
