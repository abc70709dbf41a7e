"""Numba functions on plain arrays: no files, no Dask, no Python objects.

Compiled kernels are cached on disk, those of a module in a folder that is named after its source
and that of all modules it imports.  Numba itself looks only at the file of the function that is
called, and would go on using compiled code of another file that has been edited or updated since.
"""

import atexit
import graphlib
import hashlib
import importlib
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import numba
import platformdirs

from oectflow.private_folder import NotPrivate, private_folder

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+[\w.]+[ \t]+)?import\b(?:\\\n|[^(\n])*(?:\([^)]*\))?", re.MULTILINE
)


def source_digests(folder: Path) -> dict[str, str]:
    """Return what names the compiled code of each module of kernels.

    Parameters
    ----------
    folder
        Where the modules lie.

    Returns
    -------
    For each module, those that it imports first, 16 hexadecimal digits that change with its source
    and with the source of any module of the folder that it imports, itself or through others.
    """
    sources = {path.stem: path.read_bytes() for path in sorted(folder.glob("[!_]*.py"))}
    imported = {name: sorted(sources.keys() & _imports(text)) for name, text in sources.items()}
    digests: dict[str, str] = {}
    for name in graphlib.TopologicalSorter(imported).static_order():
        digest = hashlib.blake2b(sources[name], digest_size=8)
        for other in imported[name]:
            digest.update(digests[other].encode())
        digests[name] = digest.hexdigest()
    return digests


def _imports(source: bytes) -> set[str]:
    """Return every word of the imports of a module, among them the modules beside it."""
    # Parsing all modules would take longer than loading what was compiled.
    return set(re.findall(r"\w+", " ".join(_IMPORT.findall(source.decode()))))


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
    before = numba.config.CACHE_DIR
    base = Path(before or platformdirs.user_cache_path("oectflow") / "kernels")
    try:
        for name, digest in source_digests(Path(__file__).parent).items():
            # Numba takes the folder down when a function is decorated, that is, at this import.
            numba.config.CACHE_DIR = os.fspath(_cache_folder(base / f"{name}-{digest}"))
            importlib.import_module(f"{__name__}.{name}")
    finally:
        numba.config.CACHE_DIR = before


_import_kernels()
