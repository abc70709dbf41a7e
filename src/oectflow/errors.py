"""Every error that oectflow raises on purpose, in one tree.

::

    OectflowError
    ├── InputError          a file or folder cannot be used
    │   ├── UnreadableFile      it is damaged, locked, or not HDF5
    │   ├── NotAnExperiment     it is HDF5, but not a raw experiment
    │   └── IngestError         an instrument folder cannot be converted
    ├── ConfigError         a feature configuration is wrong
    │   ├── UnknownExtractor    no extractor has this name
    │   ├── ParameterError      an extractor does not take this parameter or value
    │   └── ExpressionError     a derived feature's expression is refused
    ├── OutputError         results cannot be written or read
    │   ├── DamagedFile         a result file was cut or changed
    │   ├── StorageError        the disk is full, the folder gone or not writable
    │   └── UnknownFeature      results do not hold the feature asked for
    ├── CatalogError        a catalog cannot be opened, searched or changed
    ├── ClusterError        no usable Dask cluster
    └── RunFailed           a run with ``on_error="raise"`` had failures

This module imports no other module of oectflow, so every module may import it.  Errors take one
positional argument, the message: they cross process borders by pickle.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OectflowError(Exception):
    """Base class of everything that oectflow raises on purpose."""


class InputError(OectflowError):
    """A file or folder cannot be used as input."""


class UnreadableFile(InputError):
    """The file is damaged, truncated, locked by a writer, or no HDF5 file."""


class NotAnExperiment(InputError):
    """The file is HDF5, but not a raw experiment in a known format."""


class IngestError(InputError):
    """An instrument folder cannot be converted."""


class ConfigError(OectflowError, ValueError):
    """A feature configuration is wrong; the message names config, feature and remedy.

    Attributes
    ----------
    mistakes
        The place of each mistake and what is wrong there, if they are known.  A place is the keys
        and positions that lead to it, such as ``("features", "gm", "params")``; features are named.
    """

    mistakes: tuple[tuple[tuple[str | int, ...], str], ...] = ()


class UnknownExtractor(ConfigError):
    """No extractor is registered under this name."""


class ParameterError(ConfigError):
    """An extractor does not take this parameter, or not this value."""


class ExpressionError(ConfigError):
    """The expression of a derived feature is not allowed."""


class OutputError(OectflowError):
    """Results cannot be written or read back."""


class DamagedFile(OutputError):
    """A result file was cut or changed since it was written."""


class StorageError(OutputError):
    """Nothing more can be written to the output folder: full, gone, or not ours to write."""


class UnknownFeature(OutputError, KeyError):
    """The results have no feature with this name; the message names the nearest one."""

    # KeyError would show the message as a quoted key.
    __str__ = Exception.__str__


class CatalogError(OectflowError):
    """A catalog cannot be opened, searched or changed; the message says why."""


class ClusterError(OectflowError):
    """No usable Dask cluster."""


class RunFailed(OectflowError):
    """A run with ``on_error="raise"`` had failures."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message that names the nearest valid words.

    Parameters
    ----------
    word
        What the user wrote.
    known
        What could have been written.

    Returns
    -------
    ``"; did you mean 'x'?"`` if a known word is similar, else ``"; known: a, b, c"``, else ``""``.
    """
    options = sorted(set(known))
    folded = {option.lower(): option for option in reversed(options)}
    near = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {folded[near[0]]!r}?"
    return f"; known: {', '.join(options)}" if options else ""
