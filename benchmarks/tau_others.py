"""What autotau, SciPy, lmfit and FLIMLib take for the fits that ``tau.py`` times.

Imported by ``tau.py`` for what its own environment holds; and run by another interpreter to answer
over a pipe for what only that one holds.  Needs NumPy only; everything else is imported where it is
used.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

PACKAGES = ("autotau", "scipy", "lmfit", "flimlib")
#: Who needs which package.
NEEDS = {
    "autotau_search": "autotau",
    "autotau_cycles": "autotau",
    "autotau_step": "autotau",
    "scipy_fits": "scipy",
    "lmfit_fits": "lmfit",
    "flimlib_fits": "flimlib",
}


def autotau_search(
    t: np.ndarray, y: np.ndarray, interval: float, period: float, **options: Any
) -> dict[str, Any]:
    """Search both windows; ``done`` is the number of windows that it fits in both directions."""
    from autotau import AutoTauFitter

    fitter = AutoTauFitter(t, y, interval, period, **options)
    begin = time.process_time()
    _, r2_on, _, r2_off = fitter.fit_tau_on_and_off(interp=False)
    seconds = time.process_time() - begin
    low, high = (
        int(share / interval) for share in (fitter.window_length_min, fitter.window_length_max)
    )
    lengths = range(max(3, low), high + 1, fitter.window_points_step)
    done = sum(len(range(0, len(t) - n, fitter.window_start_idx_step)) for n in lengths)
    return {"seconds": seconds, "done": done, "r_squared_adj": [r2_on, r2_off]}


def autotau_cycles(
    t: np.ndarray, y: np.ndarray, interval: float, period: float, **windows: float
) -> dict[str, Any]:
    """Fit given windows in all cycles; ``done`` is the number of fits."""
    from autotau import CyclesTauFitter

    fitter = CyclesTauFitter(t, y, period, 1.0 / interval, **windows)
    begin = time.process_time()
    cycles = fitter.fit_all_cycles(interp=False)
    seconds = time.process_time() - begin
    tau = [[cycle["tau_on"], cycle["tau_off"]] for cycle in cycles]
    return {"seconds": seconds, "done": 2 * len(cycles), "tau": tau}


def autotau_step(
    t: np.ndarray, y: np.ndarray, interval: float, period: float, threshold: float
) -> dict[str, Any]:
    """Search the windows and fit all cycles; ``done`` is 1."""
    from autotau import CyclesAutoTauFitter

    fitter = CyclesAutoTauFitter(t, y, period, 1.0 / interval)
    begin = time.process_time()
    cycles = fitter.fit_all_cycles(interp=False, r_squared_threshold=threshold)
    seconds = time.process_time() - begin
    tau = [[cycle["tau_on"], cycle["tau_off"]] for cycle in cycles]
    return {"seconds": seconds, "done": 1, "tau": tau}


def scipy_fits(windows: Sequence[np.ndarray]) -> dict[str, Any]:
    """Fit an exponential with a constant to each window, as one who knows SciPy would.

    That is from a good start, without bounds (Levenberg-Marquardt), and to currents of about 1.
    """
    from scipy.optimize import curve_fit

    def curve(t: np.ndarray, a: float, tau: float, c: float) -> np.ndarray:
        return a * np.exp(-t / tau) + c

    tau = []
    begin = time.process_time()
    for window in windows:
        t = np.arange(float(window.size))
        start = (window[0] - window[-1], window.size / 3, window[-1])
        # Not every window of a search holds an exponential; to give up costs time as well.
        popt = np.full(3, np.nan)
        with contextlib.suppress(RuntimeError):
            popt, _ = curve_fit(curve, t, window, p0=start)
        tau.append(popt[1])
    seconds = time.process_time() - begin
    return {"seconds": seconds, "done": len(windows), "tau": tau}


def lmfit_fits(windows: Sequence[np.ndarray]) -> dict[str, Any]:
    """Fit the same with lmfit's own model, from the same start."""
    from lmfit.models import ConstantModel, ExponentialModel

    model = ExponentialModel() + ConstantModel()
    tau = []
    begin = time.process_time()
    for window in windows:
        t = np.arange(float(window.size))
        a, c = window[0] - window[-1], window[-1]
        fit = model.fit(window, x=t, amplitude=a, decay=window.size / 3, c=c)
        tau.append(fit.params["decay"].value)
    seconds = time.process_time() - begin
    return {"seconds": seconds, "done": len(windows), "tau": tau}


def flimlib_fits(windows: Sequence[np.ndarray]) -> dict[str, Any]:
    """Fit the same with FLIMLib, from the same start, all windows of one length in one call.

    It is made for photons: it wants positive numbers that decay, and computes in float32.  So each
    window ends at 1, and what rises is turned over; tau stays what it is.
    """
    import flimlib

    tau = np.full(len(windows), np.nan)
    besides = ("fitted", "residuals", "chisq", "covar", "alpha", "erraxes")
    without = {f"compute_{what}": False for what in besides}
    begin = time.process_time()
    lengths = np.array([window.size for window in windows])
    for n in np.unique(lengths):
        same = np.flatnonzero(lengths == n)
        y = np.array([windows[i] for i in same])
        ends = y[:, -1:]
        y = 1.0 + (y - ends) * np.sign(y[:, :1] - ends)
        start = np.column_stack((y[:, -1], y[:, 0] - y[:, -1], np.full(same.size, n / 3)))
        found = flimlib.GCI_marquardt_fitting_engine(
            1.0, y, start, noise_type="NOISE_CONST", sig=1.0, chisq_target=0.0, **without
        )
        tau[same] = found.param[:, 2]
    seconds = time.process_time() - begin
    return {"seconds": seconds, "done": len(windows), "tau": tau.tolist()}


ARMS: dict[str, Callable[..., dict[str, Any]]] = {
    arm.__name__: arm
    for arm in (autotau_search, autotau_cycles, autotau_step, scipy_fits, lmfit_fits, flimlib_fits)
}


def versions() -> dict[str, str]:
    """Return the versions of :data:`PACKAGES` that this interpreter has."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def answer(name: str, arguments: dict[str, Any]) -> Any:
    """Run one arm, or tell the versions; what a package prints is swallowed."""
    with contextlib.redirect_stdout(io.StringIO()):
        return versions() if name == "versions" else ARMS[name](**arguments)


def serve() -> None:
    """Answer pickled ``(name, arguments)`` on standard input until it ends."""
    while True:
        try:
            name, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(answer(name, arguments), sys.stdout.buffer)
        sys.stdout.flush()


class Others:
    """Runs arms of this module, here where the package is, else in the other interpreter."""

    def __init__(self, python: str | None) -> None:
        self.here = versions()
        self.process = None
        self.there: dict[str, str] = {}
        if python:
            command = [python, __file__]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.there = self._ask("versions", {})

    def version(self, package: str) -> str | None:
        """Return the version that is timed, None where there is none."""
        return self.here.get(package) or self.there.get(package)

    def run(self, arm: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what the arm returns; None where nobody has the package."""
        package = NEEDS[arm]
        if package in self.here:
            return answer(arm, dict(arguments))
        return self._ask(arm, dict(arguments)) if package in self.there else None

    def _ask(self, name: str, arguments: dict[str, Any]) -> Any:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        pickle.dump((name, arguments), self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def close(self) -> None:
        """End the other interpreter."""
        if self.process is not None:
            self.process.communicate()


if __name__ == "__main__":
    serve()
