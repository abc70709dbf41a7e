"""Content of a raw file as the dicts and tables that existing notebooks expect."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oectflow.atomic_write import atomic_write
from oectflow.errors import OutputError
from oectflow.measurement import Batch
from oectflow.pipeline.inputs.step_layout import Layout
from oectflow.place import place

if TYPE_CHECKING:
    import pandas as pd

    from oectflow.pipeline.inputs.batch_data import BatchData

Array = NDArray[np.float64]
#: The arrays of a transient that existing notebooks know.
TRACE = ("continuous_time", "original_time", "drain_current")


#: What the instrument writes of every test; None where a file does not say.
ATTRIBUTES = (
    *("sync_mode", "batch_id", "test_id", "name", "description"),
    *("test_unit_id", "port", "baudrate", "chip_id", "device_number"),
    *("created_at", "completed_at"),
    *("status", "total_steps", "completed_steps", "completion_percentage"),
)


class Attributes(SimpleNamespace):
    """The attributes of a raw file by name: ``attributes.chip_id``."""

    def model_dump(self) -> dict[str, Any]:
        """Return the attributes as a dict."""
        return dict(vars(self))


class Recorded:
    """Methods of a raw file with the names that existing notebooks use.

    Attributes
    ----------
    path, attributes, format_version, workflow
        As of :class:`oectflow.Experiment`.
    """

    path: Path
    attributes: dict[str, Any]
    format_version: str

    if TYPE_CHECKING:

        @property
        def workflow(self) -> Any: ...  # noqa: D102 - those of Experiment
        def n_steps(self, source: str) -> int: ...  # noqa: D102
        def step(self, source: str, index: int) -> dict[str, Any]: ...  # noqa: D102
        def batch(  # noqa: D102
            self, source: str, start: int, stop: int, arrays: Collection[str] | None = None
        ) -> Batch: ...
        def layout(self, source: str) -> Layout: ...  # noqa: D102
        def step_table(self, source: str) -> pd.DataFrame: ...  # noqa: D102

    if not TYPE_CHECKING:  # A type checker would take every name for one that is there.

        def __getattr__(self, name: str) -> Any:
            attributes = self.__dict__.get("attributes", {})
            if name in attributes:
                return attributes[name]
            if name in ATTRIBUTES and attributes:
                return None
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def hdf5_path(self) -> Path:
        """The file."""
        return self.path

    def get_attributes(self) -> Attributes:
        """Return the attributes of the file by name."""
        return Attributes(**self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes of the file; None for missing ones of ``ATTRIBUTES``."""
        return dict.fromkeys(ATTRIBUTES) | self.attributes

    def get_test_info(self) -> dict[str, Any]:
        """Return what the file says about the test."""
        return self._part("sync_mode", "batch_id", "test_id", "name", "description")

    def get_device_info(self) -> dict[str, Any]:
        """Return what the file says about chip and device."""
        return self._part("chip_id", "device_number")

    def get_test_unit_info(self) -> dict[str, Any]:
        """Return what the file says about the instrument's unit."""
        return self._part("test_unit_id", "port", "baudrate")

    def get_progress_info(self) -> dict[str, Any]:
        """Return how far the test got."""
        names = ("status", "total_steps", "completed_steps", "completion_percentage")
        return self._part(*names) | {"is_completed": self.attributes.get("status") == "completed"}

    def get_timing_info(self) -> dict[str, Any]:
        """Return begin, end and duration of the test as text; None if not known."""
        info = self._part("created_at", "completed_at")
        begin, end = (_moment(info[name]) for name in ("created_at", "completed_at"))
        return info | {"duration": str(end - begin) if begin and end else None}

    def _part(self, *names: str) -> dict[str, Any]:
        return {name: self.attributes.get(name) for name in names}

    def has_transfer_data(self) -> bool:
        """Whether there is a transfer step."""
        return self.n_steps("transfer") > 0

    def has_transient_data(self) -> bool:
        """Whether there is a transient step."""
        return self.n_steps("transient") > 0

    def get_batch_data(self) -> BatchData:
        """Return the steps of both kinds; they are read on request."""
        from oectflow.pipeline.inputs.batch_data import BatchData

        return BatchData(self)

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
        step = self.step("transfer", step_index)
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
        step = self.step("transient", step_index)
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
        n_steps = self.n_steps("transfer")
        if not n_steps:
            return None
        batch = self.batch("transfer", 0, n_steps)
        lengths = np.diff(batch.offsets)
        data = np.full((n_steps, 2, lengths.max(initial=0)), np.nan)
        there = np.arange(data.shape[2]) < lengths[:, None]
        for row, name in enumerate(("Vg", "Id")):
            data[:, row][there] = batch.arrays[name]
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
        n_steps = self.n_steps("transient")
        return dict(self.batch("transient", 0, n_steps, TRACE).arrays) if n_steps else None

    def get_transfer_step_info_table(self) -> pd.DataFrame | None:
        """Return the table of transfer steps; None if there is none."""
        return self._step_table("transfer")

    def get_transient_step_info_table(self) -> pd.DataFrame | None:
        """Return the table of transient steps; None if there is none."""
        return self._step_table("transient")

    def _step_table(self, source: str) -> pd.DataFrame | None:
        return self.step_table(source) if self.n_steps(source) else None

    def get_transfer_summary(self) -> dict[str, Any] | None:
        """Return number, shape and columns of the transfer steps; None if there are none."""
        n_steps = self.n_steps("transfer")
        if not n_steps:
            return None
        n_points = int(self.layout("transfer").lengths.max())
        return {
            "step_count": n_steps,
            "measurement_data_shape": (n_steps, 2, n_points),
            "data_types": ["Vg", "Id"],
            "step_info_columns": list(self.step_table("transfer").columns),
        }

    def get_transient_summary(self) -> dict[str, Any] | None:
        """Return number, shape and columns of the transient steps; None if there are none."""
        n_steps = self.n_steps("transient")
        if not n_steps:
            return None
        n_samples = self.layout("transient").samples()
        return {
            "step_count": n_steps,
            "total_data_points": n_samples,
            "measurement_data_shape": (3, n_samples),
            "step_info_columns": list(self.step_table("transient").columns),
        }

    def get_data_summary(self) -> dict[str, Any]:
        """Return a summary of the data, without reading a sample."""
        transfer, transient = self.get_transfer_summary(), self.get_transient_summary()
        summary = {
            "has_transfer_data": transfer is not None,
            "has_transient_data": transient is not None,
            "file_path": str(self.path),
            "format_version": self.format_version,
        }
        found = {"transfer_data": transfer, "transient_data": transient}
        return summary | {name: value for name, value in found.items() if value is not None}

    def get_experiment_summary(self) -> dict[str, Any]:
        """Return what the file says about test, device and progress, and a summary of its data."""
        return {
            "basic_info": self.get_test_info(),
            "device_info": self.get_device_info(),
            "test_unit_info": self.get_test_unit_info(),
            "progress_info": self.get_progress_info(),
            "timing_info": self.get_timing_info(),
            "has_transfer_data": self.has_transfer_data(),
            "has_transient_data": self.has_transient_data(),
            "has_workflow": self.has_workflow(),
        }

    def has_workflow(self) -> bool:
        """Whether the file has the workflow that the instrument ran."""
        return bool(self.workflow)

    def get_workflow(self) -> list[dict[str, Any]] | None:
        """Return the steps of the workflow as dicts; a loop has ``steps`` of its own.

        None if the file holds no workflow.
        """
        workflow = self.workflow
        if not workflow:
            return None
        return [workflow] if isinstance(workflow, dict) else list(workflow)

    def get_workflow_summary(self) -> dict[str, Any]:
        """Return the number of workflow steps of each type."""
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
            Number of levels to indent everything.
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
        Whether there is a workflow.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        workflow = self.get_workflow()
        if not workflow:
            return False
        path = place(output_path)
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


def _moment(text: Any) -> datetime | None:
    """Return a time that a file tells, None where it tells none that can be read."""
    try:
        # The clock of one instrument has one time zone, named or not.
        return datetime.fromisoformat(str(text)).replace(tzinfo=None)
    except ValueError:
        return None
