r"""Simulated experiments whose transconductance, threshold and time constants are known exactly.

The drain current of a transfer sweep is a floor plus a logistic turn-on,

.. math:: |I_D| = I_{max} (c + 1 / (1 + e^{-u})), \quad u = s (V_G - V_{1/2}) / w

with s = 1 (n-type) or -1 (p-type): exponential below the threshold, saturating above it.  Its
transconductance is largest at u = 0, where it is I_max / (4 w).  The slope of log |I_D| is largest
at u = -ln(1 + 1/c) / 2, which is the threshold voltage Von by the definition of the logarithmic
derivative.  (Both follow from setting the derivative with respect to u to zero.)

The drain current of a transient relaxes exponentially towards its on or off level.  Each phase
starts from the value that the one before has reached, so that cycles which are too short for
full relaxation come out as they would in the laboratory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from oectflow.measurement import Extra, Measurement, Step, get_kind
from oectflow.pipeline.inputs.protocol import (
    step_entries,
    transfer_parameters,
    transient_parameters,
    workflow,
)
from oectflow.pipeline.inputs.raw_format import (
    NAME_KEYS,
    file_name,
    name_parts,
    root_attributes,
    write_measurement,
)

Array = NDArray[np.float64]
Polarity = Literal["n", "p"]

_WIDTH_V = 0.05
_START = datetime(2025, 8, 15, 13, 0, 0)
_TRANSFER_INTERVAL_S = 0.3


class SimulatedStep(Step):
    """A step whose arrays are attributes, too, so that faults can be put into one of them.

    ``step.Id`` and ``step.drain_current`` are the same array of a transient;
    ``dataclasses.replace(step, drain_current=other)`` is the step with another one.

    Parameters
    ----------
    kind, arrays, values, info, extra
        As in :class:`Step`.
    **replaced
        Arrays by name or alias, in the place of those in ``arrays``.
    """

    def __init__(
        self,
        kind: str,
        arrays: Mapping[str, Array],
        values: Mapping[str, float] | None = None,
        info: Mapping[str, Any] | None = None,
        extra: Mapping[str, Extra] | None = None,
        **replaced: Array,
    ) -> None:
        known = get_kind(kind).array_names
        arrays = dict(arrays)
        for name, array in replaced.items():
            if name not in known:
                raise TypeError(
                    f"{kind}: {name!r} is no array of this kind, but {', '.join(known)}"
                )
            same = [other for other in arrays if known[other] is known[name]]
            arrays[same[0] if same else name] = array
        super().__init__(kind, arrays, values or {}, info or {}, extra or {})

    def __getattr__(self, name: str) -> Array:
        fields = vars(self)
        if "kind" in fields and "arrays" in fields:
            known = get_kind(fields["kind"]).array_names
            arrays: Mapping[str, Array] = fields["arrays"]
            for other, array in arrays.items():
                if name in known and known[other] is known[name]:
                    return array
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


@dataclass(frozen=True)
class SimulatedExperiment:
    """One simulated device: what the instrument would have recorded, and what is true.

    Attributes
    ----------
    transfer_steps, transient_steps
        The steps in measured order.
    test_info, workflow
        What the instrument would have put into ``test_info.json`` and ``workflow.json``.
    truth
        The numbers behind the measurement.  ``gm_max`` (S), ``gm_max_Vg`` and ``Von`` (V): shape
        (n_transfer, 2), the forward and the reverse sweep; NaN where the sweep does not reach the
        place.  ``tau_on`` and ``tau_off`` (s): shape (n_transient, n_cycles).
        ``on_amplitude`` and ``off_amplitude`` (A): the distance from the start of each phase to
        its level, of the same shape; zero where the device rests before its first gate pulse,
        and ``tau_off`` is NaN there.
    """

    transfer_steps: Sequence[SimulatedStep]
    transient_steps: Sequence[SimulatedStep]
    test_info: Mapping[str, Any]
    workflow: Sequence[Mapping[str, Any]]
    truth: Mapping[str, Array] = field(repr=False)

    @property
    def file_name(self) -> str:
        """The name that an ingested file of this experiment has."""
        return file_name(self.test_info)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the experiment as one raw HDF5 file and return its path."""
        names = dict(zip(NAME_KEYS, name_parts(self.test_info), strict=True))
        documents = {
            "json": json.dumps(self.test_info),
            "workflow": json.dumps(self.workflow, ensure_ascii=False),
        }
        steps = [*self.transfer_steps, *self.transient_steps]
        return write_measurement(
            path,
            Measurement(root_attributes(self.test_info) | names, steps, documents=documents),
        )

    def write_folder(self, folder: str | os.PathLike[str]) -> Path:
        """Write CSV and JSON files as the instrument does, and return the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in (("test_info", self.test_info), ("workflow", self.workflow)):
            text = json.dumps(document, indent=4, ensure_ascii=False)
            (folder / f"{name}.json").write_text(text, encoding="utf-8")
        for transfer in self.transfer_steps:
            time = np.arange(len(transfer), dtype=np.float64) * _TRANSFER_INTERVAL_S
            columns = {"Time": time, "Vg": transfer.arrays["Vg"], "Id": transfer.arrays["Id"]}
            _write_csv(folder / transfer.info["data_file"], columns)
        for step in self.transient_steps:
            columns = {"Time": step.arrays["time"], "Id": step.arrays["Id"]}
            _write_csv(folder / step.info["data_file"], columns)
        return folder


def simulate_device(
    seed: int = 0,
    *,
    polarity: Polarity = "n",
    n_transfer: int = 20,
    n_transient: int = 20,
    n_points: int = 121,
    n_cycles: int = 25,
    sample_rate: float = 1000.0,
    period: float = 0.2,
    duty_cycle: float = 0.5,
    tau_on: float = 8e-3,
    tau_off: float = 15e-3,
    tau_drift: float = 2e-3,
    max_current: float = 1e-3,
    off_ratio: float = 1e-4,
    turn_on_V: float = 0.3,
    turn_on_shift_V: float = 2e-4,
    hysteresis_V: float = 0.02,
    fade: float = 1e-3,
    transfer_noise: float = 2e-3,
    transient_noise: float = 5e-3,
    adc_bits: int | None = None,
    chip_id: str = "#20250815001",
    device_number: str = "1",
    description: str = "simulated",
    test_id: str | None = None,
    created_at: datetime = _START,
) -> SimulatedExperiment:
    """Simulate a stability test: transfer sweeps and transients in turn, on an ageing device.

    Parameters
    ----------
    seed
        Fixes the noise, and the test id where none is given.
    polarity
        ``"n"`` turns on at positive, ``"p"`` at negative gate voltage, with negative current.
    n_transfer, n_transient
        How many steps of each kind.
    n_points
        Points of a sweep, odd: there and back, the turning point once.
    n_cycles
        Gate periods per transient.
    sample_rate, period
        Of the transient, in Hz and s.
    duty_cycle
        Share of the period in which the gate is on; the off phase comes first.
    tau_on, tau_off
        Time constants of the first cycle, in s.
    tau_drift
        Relative growth of both per step, spread evenly over its cycles.
    max_current
        Saturated current of the first sweep, in A.
    off_ratio
        Off current as a share of ``max_current``.
    turn_on_V, turn_on_shift_V, hysteresis_V
        Size of the gate voltage of largest transconductance in the first forward sweep, its
        growth per step, and how much smaller it is on the way back; in V.
    fade
        Share of the current lost per step.
    transfer_noise
        Standard deviation of the noise as a share of the current of each point.
    transient_noise
        Standard deviation of the noise as a share of the swing between off and on.
    adc_bits
        Round the transients to a converter of so many bits over ± twice the largest current;
        sweeps are measured with a range for each point.
    chip_id, device_number, description, test_id, created_at
        Identity of the experiment, and when it began.

    Returns
    -------
    The experiment with its truth.

    Raises
    ------
    ValueError
        An unknown polarity, an even number of points, no cycle, a phase shorter than two samples,
        or a drift that takes the time constants below zero.
    """
    if polarity not in ("n", "p"):
        raise ValueError(f"polarity={polarity!r}, expected 'n' or 'p'")
    if n_points < 5 or n_points % 2 == 0:
        raise ValueError(f"n_points={n_points}, expected an odd number of at least 5")
    if n_cycles < 1:
        raise ValueError(f"n_cycles={n_cycles}, expected at least 1")
    if 1 + tau_drift * n_transient <= 0:
        raise ValueError(f"tau_drift={tau_drift} leaves no time constant after {n_transient} steps")
    starts, switches = _phase_borders(n_cycles, sample_rate, period, duty_cycle)
    sign = 1.0 if polarity == "n" else -1.0
    rng = np.random.default_rng(seed)

    Vg, Id, transfer_truth = _transfer_sweeps(
        sign * _sweep(n_points),
        max_current * (1 - fade) ** np.arange(n_transfer, dtype=np.float64),
        turn_on_V + turn_on_shift_V * np.arange(n_transfer, dtype=np.float64),
        hysteresis_V,
        off_ratio,
        sign,
    )
    Id *= 1 + transfer_noise * rng.standard_normal(Id.shape)

    # Ageing goes on during a step, so that no two cycles are quite the same.
    age = np.arange(n_transient, dtype=np.float64)[:, None] + np.arange(n_cycles) / n_cycles
    current, transient_truth = _relaxations(
        starts,
        switches,
        sample_rate,
        tau_on * (1 + tau_drift * age),
        tau_off * (1 + tau_drift * age),
        max_current * (1 - fade) ** age,
        max_current * off_ratio,
    )
    current += transient_noise * max_current * rng.standard_normal(current.shape)
    current *= sign
    if adc_bits is not None:
        least = 4 * max_current / 2**adc_bits
        current = np.rint(current / least) * least

    counts = {"transfer": n_transfer, "transient": n_transient}
    parameters = {
        "transfer": transfer_parameters(int(sign), Vg, _TRANSFER_INTERVAL_S),
        "transient": transient_parameters(int(sign), sample_rate, period, duty_cycle, n_cycles),
    }
    infos = step_entries(counts, parameters, created_at)
    time = np.arange(starts[-1], dtype=np.float64) / sample_rate
    test_info = {
        "sync_mode": False,
        "test_id": test_id or f"test_{created_at:%Y%m%d%H%M%S}_{seed & 0xFFFFFFFF:08x}",
        "name": "stability",
        "description": description,
        "chip_id": chip_id,
        "device_number": device_number,
        "created_at": created_at.isoformat(),
        "completed_at": (infos[-1]["end_time"] if infos else created_at.isoformat()),
        "status": "completed",
        "total_steps": len(infos),
        "completed_steps": len(infos),
        "completion_percentage": 100.0,
        "steps": infos,
    }
    by_kind = {kind: [i for i in infos if i["type"] == kind] for kind in parameters}
    return SimulatedExperiment(
        [
            SimulatedStep("transfer", {"Vg": Vg, "Id": row}, info=i)
            for row, i in zip(Id, by_kind["transfer"], strict=True)
        ],
        [
            SimulatedStep("transient", {"time": time, "Id": row}, info=i)
            for row, i in zip(current, by_kind["transient"], strict=True)
        ],
        test_info,
        workflow(counts, parameters),
        transfer_truth | transient_truth,
    )


def simulate_lab(
    folder: str | os.PathLike[str],
    n_experiments: int = 8,
    *,
    seed: int = 0,
    steps: int = 20,
    cycles: int = 25,
) -> list[Path]:
    """Write the instrument folders of a small laboratory: several chips, n- and p-type devices.

    Parameters
    ----------
    folder
        Where the folders go, one for each experiment.
    n_experiments, steps, cycles
        How many experiments, steps of each kind, and gate periods per transient.
    seed
        Fixes everything.

    Returns
    -------
    The folders, in order.
    """
    rng = np.random.default_rng(seed)
    folders = []
    for i in range(n_experiments):
        device = simulate_device(
            int(rng.integers(2**32)),
            polarity="p" if i % 4 == 1 else "n",
            n_transfer=steps,
            n_transient=steps,
            n_points=121 + 40 * (i % 3),
            n_cycles=cycles,
            tau_on=rng.uniform(4e-3, 10e-3),
            tau_off=rng.uniform(8e-3, 18e-3),
            tau_drift=rng.uniform(-0.005, 0.01),
            # From films that carry milliamperes down to single microfibres.
            max_current=10 ** rng.uniform(-6, -2),
            turn_on_V=rng.uniform(0.2, 0.4),
            fade=rng.uniform(0, 0.01),
            chip_id=f"#20250815{1 + i // 4:03d}",
            device_number=str(1 + i % 4),
            description="stability" if i % 2 else "稳定性 stability",
            created_at=_START + timedelta(days=i),
        )
        folders.append(device.write_folder(Path(folder) / device.test_info["test_id"]))
    return folders


def damage(path: str | os.PathLike[str]) -> None:
    """Cut a file in half, as an interrupted copy does; no reader can use what is left."""
    os.truncate(path, Path(path).stat().st_size // 2)


def _phase_borders(
    n_cycles: int, sample_rate: float, period: float, duty_cycle: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sample index of each cycle's start (n_cycles + 1) and of its turn-on."""
    samples = period * sample_rate
    starts = np.rint(np.arange(n_cycles + 1) * samples).astype(np.int64)
    switches = starts[:-1] + round(samples * (1 - duty_cycle))
    shortest = min((switches - starts[:-1]).min(), (starts[1:] - switches).min())
    if shortest < 2:
        raise ValueError(
            f"period={period} s at {sample_rate} Hz with duty_cycle={duty_cycle} leaves a phase of "
            f"{shortest} samples, expected at least 2"
        )
    return starts, switches


def _sweep(n_points: int) -> Array:
    there = np.linspace(-0.2, 0.8, (n_points + 1) // 2)
    return np.concatenate([there, there[-2::-1]])


def _transfer_sweeps(
    Vg: Array, currents: Array, turn_on_V: Array, hysteresis_V: float, off_ratio: float, sign: float
) -> tuple[Array, Array, dict[str, Array]]:
    """Return Vg (n_points), noiseless Id (n_steps, n_points) and the truth per direction."""
    centre = sign * np.stack([turn_on_V, turn_on_V - hysteresis_V], axis=1)
    turn = (len(Vg) - 1) // 2
    direction = (np.arange(len(Vg)) > turn).astype(int)
    u = sign * (Vg - centre[:, direction]) / _WIDTH_V
    Id = sign * currents[:, None] * (off_ratio + 1 / (1 + np.exp(-u)))
    Von = centre - sign * _WIDTH_V * np.log1p(1 / off_ratio) / 2
    gm_max = np.broadcast_to(currents[:, None] / (4 * _WIDTH_V), centre.shape)
    reached = np.abs(centre - Vg[[0, turn]].mean()) < np.ptp(Vg) / 2
    truth = {
        "gm_max": np.where(reached, gm_max, np.nan),
        "gm_max_Vg": np.where(reached, centre, np.nan),
        "Von": np.where(np.abs(Von - Vg[[0, turn]].mean()) < np.ptp(Vg) / 2, Von, np.nan),
    }
    return Vg, Id, truth


def _relaxations(
    starts: NDArray[np.int64],
    switches: NDArray[np.int64],
    sample_rate: float,
    tau_on: Array,
    tau_off: Array,
    on_level: Array,
    off_level: float,
) -> tuple[Array, dict[str, Array]]:
    """Return the noiseless |Id| of all steps (n_steps, n_samples) and the truth per cycle."""
    current = np.empty((len(tau_on), starts[-1]))
    on_amplitude, off_amplitude = np.empty_like(tau_on), np.empty_like(tau_on)
    value = np.full(len(tau_on), off_level)
    off = np.full(len(tau_on), off_level)
    for cycle, (start, switch, stop) in enumerate(
        zip(starts[:-1], switches, starts[1:], strict=True)
    ):
        phases = (
            (start, switch, off, tau_off, off_amplitude),
            (switch, stop, on_level[:, cycle], tau_on, on_amplitude),
        )
        for first, last, level, tau, amplitude in phases:
            amplitude[:, cycle] = np.abs(level - value)
            # One sample more than the phase has: the value that the next one starts from.
            t = np.arange(last - first + 1) / sample_rate
            # In this form a phase begins exactly where the last one ended, and rest stays at rest.
            share = -np.expm1(-t / tau[:, cycle, None])
            relaxing = value[:, None] + (level - value)[:, None] * share
            current[:, first:last] = relaxing[:, :-1]
            value = relaxing[:, -1]
    truth = {
        "tau_on": tau_on,
        "tau_off": np.where(off_amplitude > 0, tau_off, np.nan),
        "on_amplitude": on_amplitude,
        "off_amplitude": off_amplitude,
    }
    return current, truth


def _write_csv(path: Path, columns: Mapping[str, Array]) -> None:
    # Arrow writes the shortest text that reads back as the same number.
    with path.open("wb") as file:
        file.write(",".join(columns).encode() + b"\n")
        options = pa_csv.WriteOptions(include_header=False)
        pa_csv.write_csv(pa.table(dict(columns)), file, options)
