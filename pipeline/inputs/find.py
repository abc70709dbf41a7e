"""Find raw files from a folder, a glob, a file, or several of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from oectflow.config_file import shorten
from oectflow.errors import InputError
from oectflow.local_path import walk_files
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.place import as_remote, place

Experiments = str | os.PathLike[str] | Experiment | Iterable[str | os.PathLike[str] | Experiment]
_SUFFIXES = {".h5", ".hdf5"}


def is_hdf5(path: Path) -> bool:
    """Whether a file has a name of HDF5, in upper or lower case."""
    return path.suffix.lower() in _SUFFIXES


def find_experiments(experiments: Experiments) -> list[Path]:
    """Return the raw files that the argument names.

    Parameters
    ----------
    experiments
        A folder (searched with its subfolders), a glob, a file, an Experiment, or several.

    Returns
    -------
    Paths without repetition; files found in a folder are in alphabetical order.

    Raises
    ------
    InputError
        There are no files at this place.
    """
    if isinstance(experiments, str | os.PathLike | Experiment):
        experiments = [experiments]
    paths = [path for item in experiments for path in _expand(item)]
    if not paths:
        raise InputError("no experiments given; name a folder, a glob or files")
    return list(dict.fromkeys(paths))


def open_experiments(experiments: Experiments) -> tuple[dict[str, Experiment], list[str]]:
    """Open the raw files that the argument names, and leave out unusable ones.

    Parameters
    ----------
    experiments
        As in :func:`find_experiments`.

    Returns
    -------
    The experiments by their id (the first one, if several have the same id); and why others were
    left out.

    Raises
    ------
    InputError
        There are no experiments, or none can be used.
    """
    found: dict[str, Experiment] = {}
    problems = []
    for path in find_experiments(experiments):
        try:
            experiment = Experiment(path)
        except InputError as error:
            problems.append(str(error))
        else:
            found.setdefault(experiment.experiment_id, experiment)
    if not found:
        raise InputError(problems[0])
    return found, problems


def _expand(item: str | os.PathLike[str] | Experiment) -> list[Path]:
    if isinstance(item, Experiment):
        return [item.path]
    if not isinstance(item, str | os.PathLike):
        raise InputError(f"{shorten(item)}: expected a folder, a glob, a file or an Experiment")
    path = place(item, InputError)
    if (remote := as_remote(path)) is not None:
        # Everything is known about an object from a listing.
        return [path] if remote.known is not None else _in_store(path)
    if path.is_dir():
        # Files that cannot be opened are found, too, so that they are named.
        found = sorted(p for p in walk_files(path) if (is_hdf5(p) and _is_raw(p)) or p.is_dir())
        if not found:
            raise InputError(
                f"{path}: no HDF5 file (*.h5, *.hdf5) in this folder or below; "
                "instrument folders are converted by 'oectflow ingest'"
            )
        return found
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        # Path.glob accepts no absolute pattern.
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207
        if found:
            return found
        raise InputError(f"{item}: no file matches this pattern")
    raise InputError(f"{item}: no such file or folder")


def _in_store(path: Path) -> list[Path]:
    """Return the raw files at a URL; the listing of a folder is kept."""
    pattern = glob.has_magic(path.name)
    folder = path.parent if pattern else path
    try:
        found = sorted(p for p in walk_files(folder) if is_hdf5(p) and _is_raw(p))
        if pattern:
            found = [p for p in found if p.parent == folder and fnmatch(p.name, path.name)]
        elif not found and path.exists():
            return [path]
    except OSError as error:
        raise InputError(f"{path}: cannot be listed: {error.strerror or error}") from error
    if not found:
        raise InputError(
            f"{path}: no HDF5 file (*.h5, *.hdf5) "
            + ("of this name" if pattern else "in this folder or below, and no such object")
        )
    return found


def _is_raw(path: Path) -> bool:
    # In many laboratories, feature files of the earlier software lie beside the raw files.
    return path.name[0] not in "._" and "-feat_" not in path.name
