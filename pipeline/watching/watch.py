"""The front door of the room: ``watch``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from distributed import Client

from oectflow.errors import ConfigError, InputError, OutputError, StorageError
from oectflow.local_path import local_path
from oectflow.pipeline.execution.driving.lock import only_one_in
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.samples import read_samples
from oectflow.pipeline.watching.board import Board
from oectflow.pipeline.watching.changes import watch_folder
from oectflow.pipeline.watching.loop import Watcher
from oectflow.pipeline.watching.notify import Notifier, sender
from oectflow.pipeline.watching.sources import InstrumentFolder
from oectflow.pipeline.watching.status import WatchStatus, read_status

#: Readers of a folder of Parquet files pass over what begins with an underscore.
LOG_NAME = "_watch.log"
_LOCK_NAME = ".oectflow-watch.lock"
_LOG_BYTES, _OLD_LOGS = 2**20, 5


def watch(
    instrument: str | os.PathLike[str],
    raw: str | os.PathLike[str],
    out: str | os.PathLike[str],
    features: Any = "all",
    *,
    samples: Any = None,
    notify: str | None = None,
    settle: float = 0.5,
    client: Client | None = None,
    on_turn: Callable[[WatchStatus, str], object] | None = None,
) -> None:
    """Keep raw files and features up to date with a folder of the instrument, until interrupted.

    Existing, new and growing measurements are ingested and extracted.  When a test grows, only its
    new steps are computed.  If the process ends for any reason, the next call continues from there.

    Parameters
    ----------
    instrument
        The folder that instruments write to; it is never changed.
    raw, out
        Folders of the raw files and of the results, made if missing.  ``_watch.json`` and
        ``_watch.log`` in ``out`` say what happens.
    features, samples, client
        As in :func:`oectflow.extract`.
    notify
        Where to report complete tests and failures as JSON: an address ``https://…``, by POST, or a
        command, on its standard input.
    settle
        A file is complete when it has not changed for this time, in s.  A running measurement is
        read when its step is described, or when no data have come for a minute.
    on_turn
        Called a few times per second, with the status and with one line of text about it.

    Raises
    ------
    InputError
        There is no such folder.
    ConfigError
        The features, the samples, ``notify`` or ``settle`` are wrong, one folder is within another,
        or the package watchfiles is not installed (``pip install 'oectflow[watch]'``).
    OutputError
        Another watcher is at work in one of the folders.
    StorageError
        A folder cannot be written.

    Examples
    --------
    It returns when it is interrupted::

        of.watch("instrument/", "raw/", "features/", "all")
    """
    root, raw_folder, out_folder = _places(instrument, raw, out)
    if not settle > 0:
        raise ConfigError(f"settle={settle!r}: expected seconds, more than 0")
    feature_list = FeatureList.load(features)
    table = None if samples is None else read_samples(samples)
    send = None if notify is None else sender(notify)
    with ExitStack() as stack:
        for folder in (raw_folder, out_folder):
            stack.enter_context(only_one_in(folder, _LOCK_NAME, partial(_taken, out_folder)))
        log = stack.enter_context(_log_in(out_folder))
        changes, how = watch_folder(root, log.warning)
        board = Board(out_folder, log.warning)
        tell = None if send is None else Notifier(send, log.warning)
        watcher = Watcher(
            InstrumentFolder(root, raw_folder, table), raw_folder, out_folder,
            lambda paths: extract(
                paths, feature_list, out_folder, client=client, samples=table, progress=False
            ),
            settle=settle, board=board, log=log, tell=tell.tell if tell else _nobody,
        )  # fmt: skip
        log.info("%s is watched %s", root, how)
        try:
            board.write()
            board.beat()
            watcher.begin()
            for changed in changes:
                watcher.turn(changed)
                if on_turn is not None:
                    on_turn(board.status, board.line())
        except BaseException as error:
            log.info("stopped: %s", type(error).__name__)
            raise
        finally:
            board.close()
            if tell is not None:
                tell.close()


def _nobody(message: object) -> None:
    del message


def _places(
    instrument: str | os.PathLike[str], raw: str | os.PathLike[str], out: str | os.PathLike[str]
) -> tuple[Path, Path, Path]:
    """Return the three folders, of which the last two are made."""
    root = local_path(instrument, InputError).absolute()
    if not root.is_dir():
        raise InputError(f"{root}: expected the folder in which the instrument writes")
    folders = []
    for given in (raw, out):
        folder = local_path(given, StorageError).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made ({error.strerror})") from error
        if folder.resolve().is_relative_to(root.resolve()):
            raise ConfigError(
                f"{folder} is in {root}, where everything is taken for a measurement; choose a "
                "folder elsewhere"
            )
        folders.append(folder)
    if folders[0].resolve() == folders[1].resolve():
        raise ConfigError(f"{folders[0]}: expected one folder for raw files and one for results")
    return root, folders[0], folders[1]


def _taken(out: Path, folder: Path) -> OutputError:
    """Return the error of a folder in which somebody watches."""
    status = read_status(out)
    who = f" (process {status.pid} on {status.host})" if status and status.state != "lost" else ""
    return OutputError(
        f"{folder}: another watcher is at work here{who}; stop it, or choose another folder"
    )


@contextmanager
def _log_in(folder: Path) -> Iterator[logging.Logger]:
    """Open the log of a watcher; of its latest few MB nothing is lost."""
    log = logging.Logger("oectflow watch", logging.INFO)
    path = folder / LOG_NAME
    try:
        handler = RotatingFileHandler(
            path, maxBytes=_LOG_BYTES, backupCount=_OLD_LOGS, encoding="utf-8"
        )
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        handler.close()
