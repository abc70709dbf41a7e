"""Compile or load every kernel by running every built-in extractor once on a tiny step."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numba.core.event import Listener, install_listener

from oectflow.extractors.base import extractor_names, get_extractor
from oectflow.measurement import Batch


def tiny_batches() -> dict[str, Batch]:
    """Return two short steps of each source, such as a double sweep or five gate cycles."""
    vg = np.concatenate([np.linspace(-0.2, 0.6, 17), np.linspace(0.55, -0.2, 16)])
    sweep = {"Vg": vg, "Id": -1e-4 / (1.0 + np.exp(-(vg - 0.3) / 0.05)), "Ig": 1e-8 * vg}
    k = np.arange(200)
    decay = np.exp(-(k % 20) / 5.0)
    current = np.where(k // 20 % 2 == 1, 1e-3 * (1.0 - decay), 1e-3 * decay)
    transient = {
        "continuous_time": 1e-3 * k,
        "original_time": 1e-3 * k,
        "drain_current": current,
        "Ig": np.diff(current, prepend=0.0),
        "sampling_interval": 1e-3,
        "gate_period": 0.04,
        "duty_cycle": 0.5,
    }
    Vd = np.linspace(0.0, -0.6, 41)
    curve = {"Vd": Vd, "Id": 1e-3 * np.tanh(5.0 * Vd)}
    f = np.geomspace(1.0, 1e5, 26)
    z = 100.0 + 1e5 / (1.0 + 2j * np.pi * f * 1e5 * 1e-8)
    spectrum = {"frequency": f, "Z_real": z.real, "Z_imag": z.imag}
    return {
        "impedance": Batch.from_steps([spectrum, spectrum]),
        "output": Batch.from_steps([curve, curve]),
        "transfer": Batch.from_steps([sweep, sweep]),
        "transient": Batch.from_steps([transient, transient]),
    }


def warm_up(names: Iterable[str] | None = None, told: Callable[[int], None] | None = None) -> None:
    """Compile or load everything that built-in extractors need for their first step.

    If kernels are not in Numba's cache on disk, other processes compile a share of them.

    Parameters
    ----------
    names
        Extractors, by default all; those that are not built in are left out.
    told
        Called with the number of compiled functions whenever it grows; never called if all come
        from the cache.
    """
    shares = _shares(extractor_names() if names is None else names)
    compiling = _Compiling(shares[1:] if (os.cpu_count() or 1) > 1 else [], told)
    with install_listener("numba:compile", compiling), compiling:
        for number, share in enumerate(shares):
            if number == 1:
                compiling.wait()
            _run(share)


def compile_share(names: str) -> None:
    """Compile the kernels of some extractors, and write a line for each compiled function."""

    def say(_: int) -> None:
        sys.stdout.write(".\n")
        sys.stdout.flush()

    with install_listener("numba:compile", _Compiling([], say)):
        _run(names.split(","))


def _run(names: Iterable[str]) -> None:
    batches = tiny_batches()
    for name in names:
        extractor = get_extractor(name)
        batch = batches[extractor.source]
        extractor.extract_step(batch.step(0))
        if extractor.extract_batch is not None:
            extractor.extract_batch(batch, extractor.params)


def _shares(names: Iterable[str]) -> list[list[str]]:
    """Return built-in extractors in shares that compile almost nothing in common.

    Measured in CPU time: time constants 64 s, sweeps and output curves 41 s, other transients 13 s.
    """
    shares: dict[str, list[str]] = {"tau": [], "sweeps": [], "others": []}
    for name in names:
        extractor = get_extractor(name)
        module = type(extractor).__module__
        if module.startswith("oectflow.extractors.") and extractor.source in tiny_batches():
            fits = module.rpartition(".")[2] in (
                "tau", "decay", "relaxation", "model_choice", "crossings", "charge",
            )  # fmt: skip
            sweeps = extractor.source in ("transfer", "output")
            shares["tau" if fits else "sweeps" if sweeps else "others"].append(name)
    return [share for share in shares.values() if share]


class _Compiling(Listener):  # type: ignore[misc] # Numba has no types
    """Notices each compiled function; at the first one, starts other processes that compile, too.

    Parameters
    ----------
    shares
        Names of extractors, a list for each process.
    told
        Called with the number of functions compiled so far.
    """

    def __init__(self, shares: Sequence[Sequence[str]], told: Callable[[int], None] | None) -> None:
        self._shares, self._told = shares, told
        self._children: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._n = -1

    def __enter__(self) -> _Compiling:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
        self.wait()

    def on_start(self, _event: object) -> None:
        """Called by Numba before it compiles a function that is not in the cache."""
        if self._n >= 0:
            return
        self._count()
        code = "import sys; from oectflow.extractors.warm import compile_share as c; c(sys.argv[1])"
        for share in self._shares:
            child = subprocess.Popen(
                # -P: a file random.py in the current folder must not be imported.
                [sys.executable, "-P", "-c", code, ",".join(share)],
                stdout=subprocess.PIPE,
                # An error there also occurs here, and is reported here.
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                text=True,
            )
            self._children.append(child)
            self._readers.append(threading.Thread(target=self._read, args=(child,), daemon=True))
            self._readers[-1].start()

    def on_end(self, _event: object) -> None:
        """Called by Numba when it has compiled a function."""
        self._count()

    def wait(self) -> None:
        """Wait until the other processes have ended."""
        for reader in self._readers:
            reader.join()

    def _read(self, child: subprocess.Popen[str]) -> None:
        with child:
            for _ in child.stdout or ():
                self._count()

    def _count(self) -> None:
        with self._lock:
            self._n += 1
            if self._told is not None:
                self._told(self._n)
