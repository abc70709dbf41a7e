"""A small laboratory to try things out: simulated devices, ingested like real ones."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from oectflow.errors import InputError
from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.inputs.simulate import damage, simulate_lab

N_EXPERIMENTS = 8


def make_demo(folder: Path) -> tuple[Path, Path]:
    """Make the raw files of the demo.

    Parameters
    ----------
    folder
        Where to make the demo; an earlier demo in ``folder/raw`` is replaced.

    Returns
    -------
    The folder of the HDF5 files, and the file in it that was cut in half.

    Raises
    ------
    InputError
        ``folder/raw`` contains something other than a demo, or a file could not be made.
    """
    raw = folder / "raw"
    mark = raw / ".oectflow-demo"
    if raw.exists():
        if not mark.exists():
            raise InputError(f"{raw}: exists and is not a demo of oectflow; choose another folder")
        shutil.rmtree(raw)
    raw.mkdir(parents=True)
    mark.touch()
    with tempfile.TemporaryDirectory() as instrument:
        simulate_lab(instrument, N_EXPERIMENTS)
        report = ingest(instrument, raw)
    if report.failed:
        raise InputError(str(report))
    damaged = sorted(raw.glob("*.h5"))[-1]
    damage(damaged)
    return raw, damaged
