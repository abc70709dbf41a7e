"""A made-up instrument: tests that grow step by step, as its software writes them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import oectflow as of
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.watching.board import Board
from oectflow.pipeline.watching.loop import Watcher
from oectflow.pipeline.watching.sources import InstrumentFolder
from oectflow.pipeline.watching.status import read_status

POINTS = 41


class RunningTest:
    """One test that is being measured: sweeps and transients in turns, or sweeps alone."""

    def __init__(self, folder: Path, *, transients: bool = False, chip: str = "#1") -> None:
        self.folder, self.transients = folder, transients
        folder.mkdir(parents=True)
        self.entries: list[dict] = []
        self.rng = np.random.default_rng(abs(hash(folder.name)) % 2**32)
        self.info = {"test_id": folder.name, "chip_id": chip, "device_number": "1",
                     "description": "d", "status": "in_progress"}  # fmt: skip
        self._describe()

    @property
    def n_sweeps(self) -> int:
        return sum(entry["type"] == "transfer" for entry in self.entries)

    def begin_step(self, rows: int | None = None) -> Path:
        """Write the CSV file of the next step, or its first rows; it is not described yet."""
        number = len(self.entries) + 1
        kind = "transient" if self.transients and number % 2 == 0 else "transfer"
        path = self.folder / f"{number}_{kind}.csv"
        lines = transient_lines(self.rng) if kind == "transient" else sweep_lines(self.rng)
        path.write_text("".join(lines[: None if rows is None else rows + 1]))
        return path

    def add_step(self) -> None:
        """Write a whole step, and describe it."""
        path = self.begin_step()
        transient = path.stem.endswith("transient")
        parameters = (
            {"timeStep": 1, "topTime": 60, "bottomTime": 140, "gateVoltageBottom": 0,
             "gateVoltageTop": 600, "cycles": 3, "drainVoltage": -600}
            if transient
            else {"isSweep": 1, "timeStep": 50, "gateVoltageStart": -400, "gateVoltageEnd": 800,
                  "gateVoltageStep": 60, "drainVoltage": -600}
        )  # fmt: skip
        self.entries.append(
            {"type": "transient" if transient else "transfer", "data_file": path.name,
             "reason": "completed", "parameters": parameters}
        )  # fmt: skip
        self._describe()

    def end(self, status: str = "completed") -> None:
        """Write the description of a test that has ended in place of the other one."""
        self.info["status"] = status
        (self.folder / "test_info.json").write_text(self._text())
        (self.folder / "test_info_temp.json").unlink()

    def _text(self) -> str:
        return json.dumps({**self.info, "completed_steps": len(self.entries),
                           "steps": self.entries})  # fmt: skip

    def _describe(self) -> None:
        (self.folder / "test_info_temp.json").write_text(self._text())


def sweep_lines(rng) -> list[str]:
    up = np.linspace(-0.4, 0.8, POINTS // 2 + 1)
    Vg = np.r_[up, up[-2::-1]]
    Id = 1e-4 / (1 + np.exp(-(Vg - rng.uniform(0.1, 0.4)) / 0.05)) + 1e-8
    return ["Vg,Id\n", *(f"{a:.3f},{b:g}\n" for a, b in zip(Vg, Id, strict=True))]


def transient_lines(rng) -> list[str]:
    t = np.arange(600) * 1e-3
    high = (t % 0.2) < 0.06
    tau = rng.uniform(5e-3, 2e-2)
    level = np.where(high, 1e-4, 1e-6)
    Id = np.empty_like(t)
    Id[0] = 1e-6
    for i in range(1, len(t)):
        Id[i] = level[i] + (Id[i - 1] - level[i]) * np.exp(-1e-3 / tau)
    return ["Time,Id\n", *(f"{a:.3f},{b:g}\n" for a, b in zip(t, Id, strict=True))]


class Clock:
    """A clock that stands until it is set forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


FEATURES = {
    "features": [
        {"name": "gm", "extractor": "transfer.gm_max"},
        {"name": "Von", "extractor": "transfer.Von"},
    ]
}


class Desk:
    """A watcher with a clock that is set by hand, and what it has said."""

    def __init__(self, where: Path, extract=None, features=FEATURES, clock: Clock | None = None):
        self.instrument, self.raw, self.out = where / "lab", where / "raw", where / "features"
        for folder in (self.instrument, self.raw, self.out):
            folder.mkdir(parents=True, exist_ok=True)
        self.features = FeatureList.load(features)
        self.clock = clock or Clock()
        self.told: list[dict] = []
        self.records: list = []
        self._do_extract = extract or of.extract
        self.log = logging.Logger("test")
        self.lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.lines.append(record.getMessage())
        self.log.addHandler(handler)
        self.board = Board(self.out, self.lines.append, self.clock)
        self.folder = InstrumentFolder(self.instrument, self.raw)
        self.watcher = Watcher(
            self.folder, self.raw, self.out, self._extract,
            settle=0.5, board=self.board, log=self.log, tell=self.told.append, clock=self.clock,
        )  # fmt: skip
        self.watcher.begin()

    def _extract(self, paths):
        report = self._do_extract(paths, self.features, self.out, progress=False)
        self.records += report.experiments
        return report

    def pass_time(self, seconds: float, changed=()) -> None:
        """Let time go by in quarters of a second; changes are told at the begin."""
        for i in range(round(4 * seconds)):
            self.watcher.turn(changed if i == 0 else ())
            self.clock.now += 0.25
        self.watcher.turn(())

    def status(self):
        self.board.write()
        return {one.id: one for one in read_status(self.out).experiments}

    def rows(self, test_id: str) -> int:
        return pq.read_metadata(self.out / f"{test_id}.parquet").num_rows
