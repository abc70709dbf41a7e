"""The measured data and the workflow of an experiment, as dicts and tables."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oectflow.atomic_write import atomic_write
from oectflow.errors import OutputError
from oectflow.pipeline.inputs.experiment import Experiment, FileIdentity

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
#: The arrays of a transient that existing notebooks know.
TRACE = ("continuous_time", "original_time", "drain_current")


class Measurement:
    """What a raw file holds, read when it is asked for.

    Parameters
    ----------
    experiment
        The raw file, opened.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._opened: Experiment | None = experiment

    def open(self) -> Experiment:
        """Return the raw file, opened anew if it has changed.

        Raises
        ------
        InputError
            It cannot be read.
        """
        opened = self._opened
        if opened is None or FileIdentity.of(opened.path) != opened.identity:
            opened = self._opened = self._open()
        return opened

    def _open(self) -> Experiment:
        assert self._opened is not None
        return Experiment(self._opened.path)

    def get_transfer_data(self, step_index: int | None = None) -> dict[str, Any] | None:
        """Return one transfer step, or all.

        Parameters
        ----------
        step_index
            As in :meth:`get_transfer_step_measurement`; None for
            :meth:`get_transfer_all_measurement`.
        """
        if step_index is None:
            return self.get_transfer_all_measurement()
        return self.get_transfer_step_measurement(step_index)

    def get_transient_data(self, step_index: int | None = None) -> dict[str, Array] | None:
        """Return one transient step, or all.

        Parameters
        ----------
        step_index
            As in :meth:`get_transient_step_measurement`; None for
            :meth:`get_transient_all_measurement`.
        """
        if step_index is None:
            return self.get_transient_all_measurement()
        return self.get_transient_step_measurement(step_index)

    def get_transfer_step_measurement(self, step_index: int) -> dict[str, Array]:
        """Return ``Vg`` (V) and ``Id`` (A) of one sweep, each of shape (n_points,).

        Raises
        ------
        IndexError
            There is no such step.
        InputError
            It cannot be read.
        """
        step = self.open().step("transfer", step_index)
        return {name: step[name] for name in ("Vg", "Id")}

    def get_transient_step_measurement(self, step_index: int) -> dict[str, Array]:
        """Return one transient.

        Returns
        -------
        ``continuous_time`` (s, goes on from step to step), ``original_time`` (s, as measured) and
        ``drain_current`` (A), each of shape (n_samples,).

        Raises
        ------
        IndexError
            There is no such step.
        InputError
            It cannot be read.
        """
        step = self.open().step("transient", step_index)
        return {name: step[name] for name in TRACE}

    def get_transfer_all_measurement(self) -> dict[str, Any] | None:
        """Return all sweeps.

        Returns
        -------
        ``measurement_data`` of shape (n_steps, 2, n_points), Vg (V) and Id (A), NaN after the end
        of shorter sweeps; and ``data_info``.  None if there is no transfer step.

        Raises
        ------
        InputError
            They cannot be read.
        """
        experiment = self.open()
        n_steps = experiment.n_steps("transfer")
        if not n_steps:
            return None
        block = experiment.block("transfer", 0, n_steps)
        lengths = np.diff(block.offsets)
        data = np.full((n_steps, 2, lengths.max(initial=0)), np.nan)
        there = np.arange(data.shape[2]) < lengths[:, None]
        for row, name in enumerate(("Vg", "Id")):
            data[:, row][there] = block.arrays[name]
        return {
            "measurement_data": data,
            "data_info": {
                "shape": data.shape,
                "step_count": n_steps,
                "data_types": ["Vg", "Id"],
                "units": ["V", "A"],
                "description": "Shape: [steps, data_types, data_points]",
            },
        }

    def get_transient_all_measurement(self) -> dict[str, Array] | None:
        """Return all transients one after the other; as for one step, None if there is none."""
        experiment = self.open()
        n_steps = experiment.n_steps("transient")
        return dict(experiment.block("transient", 0, n_steps, TRACE).arrays) if n_steps else None

    def get_transfer_step_info_table(self) -> pd.DataFrame | None:
        """Return the table of transfer steps, None if there is none."""
        return self._step_table("transfer")

    def get_transient_step_info_table(self) -> pd.DataFrame | None:
        """Return the table of transient steps, None if there is none."""
        return self._step_table("transient")

    def _step_table(self, source: str) -> pd.DataFrame | None:
        experiment = self.open()
        return experiment.step_table(source) if experiment.n_steps(source) else None

    def get_transfer_summary(self) -> dict[str, Any] | None:
        """Return number, shape and columns of the transfer steps, None if there is none."""
        experiment = self.open()
        n_steps = experiment.n_steps("transfer")
        if not n_steps:
            return None
        n_points = int(experiment.layout("transfer").lengths.max())
        return {
            "step_count": n_steps,
            "measurement_data_shape": (n_steps, 2, n_points),
            "data_types": ["Vg", "Id"],
            "step_info_columns": list(experiment.step_table("transfer").columns),
        }

    def get_transient_summary(self) -> dict[str, Any] | None:
        """Return number, shape and columns of the transient steps, None if there is none."""
        experiment = self.open()
        n_steps = experiment.n_steps("transient")
        if not n_steps:
            return None
        n_samples = experiment.layout("transient").samples()
        return {
            "step_count": n_steps,
            "total_data_points": n_samples,
            "measurement_data_shape": (3, n_samples),
            "step_info_columns": list(experiment.step_table("transient").columns),
        }

    def get_data_summary(self) -> dict[str, Any]:
        """Return what there is, without reading a sample."""
        experiment = self.open()
        transfer, transient = self.get_transfer_summary(), self.get_transient_summary()
        summary = {
            "has_transfer_data": transfer is not None,
            "has_transient_data": transient is not None,
            "file_path": str(experiment.path),
            "format_version": experiment.format_version,
        }
        found = {"transfer_data": transfer, "transient_data": transient}
        return summary | {name: value for name, value in found.items() if value is not None}

    def get_experiment_summary(self) -> dict[str, Any]:
        """Return what the file says about test, device and progress, and what it holds."""
        attributes = self.open().attributes

        def part(*names: str) -> dict[str, Any]:
            return {name: attributes.get(name) for name in names}

        summary = self.get_data_summary()
        progress = ("status", "total_steps", "completed_steps", "completion_percentage")
        return {
            "basic_info": part("sync_mode", "batch_id", "test_id", "name", "description"),
            "device_info": part("chip_id", "device_number"),
            "test_unit_info": part("test_unit_id", "port", "baudrate"),
            "progress_info": part(*progress),
            "timing_info": part("created_at", "completed_at"),
            "has_transfer_data": summary["has_transfer_data"],
            "has_transient_data": summary["has_transient_data"],
            "has_workflow": self.has_workflow(),
        }

    def has_workflow(self) -> bool:
        """Whether the file holds the workflow that the instrument ran."""
        return bool(self.open().workflow)

    def get_workflow(self) -> list[dict[str, Any]] | None:
        """Return the steps of the workflow as dicts; a loop has ``steps`` of its own.

        None if the file holds no workflow.
        """
        workflow = self.open().workflow
        if not workflow:
            return None
        return [workflow] if isinstance(workflow, dict) else list(workflow)

    def get_workflow_summary(self) -> dict[str, Any]:
        """Return how many steps of which type the workflow has."""
        workflow = self.get_workflow()
        if not workflow:
            return {"has_workflow": False}
        steps = [step for step, _ in _walk(workflow, ())]
        loops = [step for step in steps if step.get("type") == "loop"]
        return {
            "has_workflow": True,
            "total_steps": len(workflow),
            "step_types": dict(Counter(str(step.get("type")) for step in steps)),
            "total_loops": len(loops),
            "max_loop_iterations": max((loop.get("iterations", 0) for loop in loops), default=0),
            "nested_step_count": sum(len(loop.get("steps", ())) for loop in loops),
        }

    def print_workflow(self, indent: int = 0, show_all_params: bool = False) -> None:
        """Print the workflow, one line per step, in the units of the instrument (ms, mV).

        Parameters
        ----------
        indent
            Levels by which everything is moved to the right.
        show_all_params
            Print parameters that are 0, too.
        """
        workflow = self.get_workflow()
        lines = [] if workflow else ["no workflow"]
        for step, number in _walk(workflow or (), ()):
            words = [f"{'.'.join(map(str, number))}. {step.get('type')}"]
            if "iterations" in step:
                words.append(f"{step['iterations']} times")
            parameters = step.get("params") or {}
            words += [f"{k}={v}" for k, v in parameters.items() if v or show_all_params]
            lines.append("  " * (len(number) - 1) + " ".join(words))
        sys.stdout.write("".join(f"{'  ' * indent}{line}\n" for line in lines))

    def export_workflow_json(self, output_path: str | os.PathLike[str], indent: int = 2) -> bool:
        """Write the workflow to a JSON file.

        Returns
        -------
        Whether there is one.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        workflow = self.get_workflow()
        if not workflow:
            return False
        path = Path(output_path)
        text = json.dumps(workflow, indent=indent, ensure_ascii=False)
        try:
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
        return True

    def export_workflow(self, output_path: str | os.PathLike[str]) -> bool:
        """Write the workflow to a JSON file; see :meth:`export_workflow_json`."""
        return self.export_workflow_json(output_path)


def _walk(
    steps: Any, above: tuple[int, ...]
) -> Iterator[tuple[Mapping[str, Any], tuple[int, ...]]]:
    for number, step in enumerate(steps, 1):
        yield step, (*above, number)
        yield from _walk(step.get("steps") or (), (*above, number))
