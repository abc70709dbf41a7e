"""Numba functions on plain arrays: no files, no Dask, no Python objects.

Compiled kernels are cached on disk in a folder that is named after the source of all of them.
Numba itself looks only at the file of the function that is called, and would go on using compiled
code of another file that has been edited or updated since.
"""

import atexit
import hashlib
import importlib
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numba
import platformdirs

from oectflow.private_folder import NotPrivate, private_folder


def source_digest(folder: Path) -> str:
    """Return 16 hexadecimal digits that change with the source of any kernel."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache_folder(wanted: Path) -> Path:
    """Return where compiled kernels are kept: what lies there is run, so it has to be ours."""
    try:
        return private_folder(wanted)
    except OSError:
        # Numba looks for another place where it cannot write.
        return wanted
    except NotPrivate as error:
        warnings.warn(f"{error}; kernels are compiled anew for this process", stacklevel=2)
        own = tempfile.mkdtemp(prefix="oectflow-kernels-")
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return Path(own)


def _import_kernels() -> None:
    folder = Path(__file__).parent
    base = numba.config.CACHE_DIR or platformdirs.user_cache_path("oectflow") / "kernels"
    before = numba.config.CACHE_DIR
    # Numba takes the folder down when a function is decorated, that is, during these imports.
    numba.config.CACHE_DIR = os.fspath(_cache_folder(Path(base) / source_digest(folder)))
    try:
        for path in sorted(folder.glob("[!_]*.py")):
            importlib.import_module(f"{__name__}.{path.stem}")
    finally:
        numba.config.CACHE_DIR = before


_import_kernels()
