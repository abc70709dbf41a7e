"""Time fits of two exponentials and of a stretched one, and look whether they are the best.

    python benchmarks/models.py [--json PATH] [--rounds 5] [--windows 200] [--cases 0] [--many 0]
                                [--seed 0]

Windows of 100 even samples, noise of 1e-3 of the swing, on one core and warm.  In each round
everybody fits the same windows, in turns: this package, which looks for the best of all time
constants; ``scipy.optimize.curve_fit`` and, where it is installed, lmfit, which both begin at the
truth and are measured on every 20th window.  A number is CPU time for a fit, the median over the
rounds.

A second table holds what else there is of every phase: the time of one exponential, of crossing
times (which find the phases by fits of one exponential, too) and of the choice of a model, beside
that of reading the step from a raw file, in 20 steps of 10 gate cycles of 200 samples.

--cases N fits N windows of other lengths (15 to 150 samples), noise (1e-4 to 5e-2) and shapes, and
lets ``scipy.optimize.differential_evolution`` look for a smaller sum of squares; how often it finds
one, by more than 1e-6 of it, is printed.  A case takes about 0.1 s.

--many N does the same with N windows of ten lengths and a search that leaves nothing out: sums of
squares at all of 40,000 pairs of unknowns, five times as dense as the package's own, and ways down
from every one that is less than its neighbours, and from eight at random.  A case takes about 3 ms;
those where it finds less are printed.  --seed chooses the windows of both.
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _machine
import numpy as np
from scipy.ndimage import maximum_filter
from scipy.optimize import curve_fit, differential_evolution

import oectflow as of
from oectflow.extractors.kernels import downhill, mixtures
from oectflow.extractors.kernels.coordinates import no_table
from oectflow.extractors.relaxation import fit_windows
from oectflow.pipeline.inputs.simulate import simulate_device

N, NOISE, PART = 100, 1e-3, 20
MODELS = {"two exponentials": downhill.DOUBLE, "stretched": downhill.STRETCHED}
T = np.arange(float(N))


def double(
    t: np.ndarray, tau_1: float, tau_2: float, a_1: float, a_2: float, c: float
) -> np.ndarray:
    """Return two exponentials with a constant."""
    return c + a_1 * np.exp(-t / tau_1) + a_2 * np.exp(-t / tau_2)


def stretched(t: np.ndarray, tau: float, beta: float, a: float, c: float) -> np.ndarray:
    """Return a stretched exponential with a constant."""
    return c + a * np.exp(-((t / tau) ** beta))


CURVES: dict[int, Callable[..., np.ndarray]] = {
    downhill.DOUBLE: double,
    downhill.STRETCHED: stretched,
}


def windows(model: int, n_windows: int) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    """Return windows of one trace, shape (W, n), and their parameters."""
    rng = np.random.default_rng(1)
    truths: list[tuple[float, ...]] = []
    for _ in range(n_windows):
        tau = rng.uniform(3, 10)
        if model == downhill.DOUBLE:
            truths.append((tau, tau * rng.uniform(3, 8), *rng.uniform(0.3, 1, 2), 5.0))
        else:
            truths.append((tau, rng.uniform(0.5, 1), 1.0, 5.0))
    clean = np.stack([CURVES[model](T, *truth) for truth in truths])
    return clean + rng.normal(0, NOISE, clean.shape), truths


def fit_all(y: np.ndarray, model: int) -> np.ndarray:
    """Fit windows of one length; return their columns."""
    rows, codes = np.empty((len(y), mixtures.N_COLUMNS)), np.zeros(len(y), np.int8)
    starts = np.arange(len(y)) * y.shape[1]
    lengths = np.full(len(y), y.shape[1])
    fit_windows(model, y.ravel(), np.empty(0), starts, lengths, rows, codes)
    return rows


def timed(call: Callable[[], Any], n_fits: int) -> float:
    """Return CPU time for a fit, in s."""
    begin = time.process_time()
    call()
    return (time.process_time() - begin) / n_fits


def others(y: np.ndarray, truths: list[tuple[float, ...]], model: int) -> dict[str, Any]:
    """Return what the others do: the name, and a call that fits every 20th window."""
    part = [(y[i], truths[i]) for i in range(0, len(y), PART)]

    def scipy() -> None:
        for samples, truth in part:
            curve_fit(CURVES[model], T, samples, truth)

    calls: dict[str, Any] = {"scipy": scipy}
    if importlib.util.find_spec("lmfit"):
        import lmfit

        fitted = lmfit.Model(CURVES[model])
        names = fitted.param_names

        def with_lmfit() -> None:
            for samples, truth in part:
                fitted.fit(samples, t=T, **dict(zip(names, truth, strict=True)))

        calls["lmfit"] = with_lmfit
    return calls


def is_beaten(model: int, rng: np.random.Generator) -> bool:
    """Tell whether a search by chance finds a smaller sum of squares in a random window."""
    n = int(rng.integers(15, 150))
    t = np.arange(float(n))
    tau = np.exp(rng.uniform(np.log(0.5), np.log(2 * n), 2))
    if rng.random() < 0.5:
        clean = double(t, *tau, *rng.normal(size=2), 0.0)
    else:
        clean = stretched(t, tau[0], rng.uniform(0.3, 1.5), rng.normal(), 0.0)
    y = clean + rng.normal(0, np.exp(rng.uniform(np.log(1e-4), np.log(5e-2))), n)
    first, last = np.log(mixtures.TAU_MIN), np.log(mixtures.TAU_MAX * n)

    def left(x: np.ndarray) -> float:
        # Two time constants nearer than two per cent would let rounding fit the noise.
        second = min(x[0] + x[1], last)
        if model == downhill.DOUBLE:
            parts = [np.exp(-t / np.exp(x[0])), np.exp(-t / np.exp(second))]
        else:
            parts = [np.exp(-((t / np.exp(x[0])) ** np.exp(x[1])))]
        basis = np.stack([np.ones(n), *parts], axis=1)
        rest = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
        return float(rest @ rest)

    apart = downhill.LEAST_APART
    bounds = [(first, last), (np.log(mixtures.BETA_MIN), np.log(mixtures.BETA_MAX))]
    if model == downhill.DOUBLE:
        bounds = [(first, last - 2 * apart), (apart, last - first)]
    found = differential_evolution(left, bounds, rng=rng, tol=1e-8, maxiter=150)
    return bool(found.fun < fit_all(y[None], model)[0, mixtures.RSS] * (1 - 1e-6))


#: Lengths of windows, nodes of both unknowns, and starts by chance, where nothing is left out.
LENGTHS = (15, 22, 30, 41, 55, 70, 86, 103, 124, 150)
DENSE = {downhill.DOUBLE: (200, 200), downhill.STRETCHED: (400, 100)}
BY_CHANCE = 8


def random_windows(n: int, n_windows: int, rng: np.random.Generator) -> np.ndarray:
    """Return windows of one length with relaxations of both models, as in :func:`is_beaten`."""
    t = np.arange(float(n))
    tau = np.exp(rng.uniform(np.log(0.5), np.log(2 * n), (n_windows, 2, 1)))
    of_two = np.sum(rng.normal(size=(n_windows, 2, 1)) * np.exp(-t / tau), axis=1)
    beta = rng.uniform(0.3, 1.5, (n_windows, 1))
    of_many = rng.normal(size=(n_windows, 1)) * np.exp(-((t / tau[:, 0]) ** beta))
    clean = np.where(rng.random((n_windows, 1)) < 0.5, of_two, of_many)
    noise = np.exp(rng.uniform(np.log(1e-4), np.log(5e-2), (n_windows, 1)))
    return clean + noise * rng.normal(size=clean.shape)


def dense_grid(model: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes of both unknowns, and the functions there, less their means, of unit length."""
    t = np.arange(float(n))
    first, last = np.log(mixtures.TAU_MIN), np.log(mixtures.TAU_MAX * n)
    p = np.linspace(first, last, DENSE[model][0])
    if model == downhill.DOUBLE:
        q = p
        functions = np.expm1(-t * np.exp(-p)[:, None])
    else:
        q = np.linspace(np.log(mixtures.BETA_MIN), np.log(mixtures.BETA_MAX), DENSE[model][1])
        of_pairs = (t * np.exp(-p)[:, None, None]) ** np.exp(q)[None, :, None]
        functions = np.expm1(-of_pairs).reshape(-1, n)
    functions = functions - functions.mean(axis=1, keepdims=True)
    return p, q, functions / np.linalg.norm(functions, axis=1, keepdims=True)


def least_of_many(model: int, n: int, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a search that leaves nothing out finds for windows of one length.

    Returns
    -------
    Logarithms of both unknowns, and the sum of squares.  Shape (W, 3).
    """
    t = np.arange(float(n))
    p, q, functions = dense_grid(model, n)
    cosine = functions @ functions.T if model == downhill.DOUBLE else np.empty((0, 0))
    _, _, bounds = mixtures.nodes_of(t, model)
    clock, work = downhill.clock_of(t, model), mixtures.work_space(n)
    found = np.empty((len(y), 3))
    for row, window in zip(found, y, strict=True):
        centred = window - window.mean()
        c = functions @ centred
        if model == downhill.DOUBLE:
            with np.errstate(all="ignore"):
                gain = (c[:, None] ** 2 - 2 * cosine * np.outer(c, c) + c**2) / (1 - cosine**2)
            gain[np.tril_indices(c.size)] = -np.inf
        else:
            gain = c.reshape(p.size, q.size) ** 2
        at = np.nonzero((gain == maximum_filter(gain, 3, mode="nearest")) & (gain > -np.inf))
        starts = np.stack([p[at[0]], q[at[1]]], axis=1)
        by_chance = rng.uniform(bounds[:, 0], bounds[:, 1], (BY_CHANCE, 2))
        if model == downhill.DOUBLE:
            by_chance.sort(axis=1)
        ways = [
            downhill.refine(
                centred, clock, True, model, *start, bounds, no_table(), work, mixtures.NOWHERE,
                downhill.ROUNDING,
            )
            for start in np.concatenate([starts, by_chance])
        ]  # fmt: skip
        row[:] = min(ways, key=lambda way: way[2])
    return found


def count_beaten(model: int, n_cases: int, seed: int) -> int:
    """Return in how many windows a search that leaves nothing out finds less; print these."""
    rng = np.random.default_rng(seed)
    beaten = 0
    for n in LENGTHS:
        y = random_windows(n, n_cases // len(LENGTHS), rng)
        rows = fit_all(y, model)
        found = least_of_many(model, n, y, rng)
        # Where there is no fit, nothing is less.
        less = found[:, 2] < np.nan_to_num(rows[:, mixtures.RSS], nan=np.inf) * (1 - 1e-6)
        for row, best in zip(rows[less], found[less], strict=True):
            ours = row[[mixtures.FIRST, mixtures.SECOND]]
            errors = row[[mixtures.SE_FIRST, mixtures.SE_SECOND]]
            print(
                f"{n} samples: {ours} ± {errors}, sum of squares {row[mixtures.RSS]:.6g}; at "
                f"{np.exp(best[:2])} it is {best[2]:.6g}"
            )
        beaten += int(less.sum())
    return beaten


#: Features of every phase, and their parameters.
FEATURES: dict[str, dict[str, Any]] = {
    "transient.tau_on_off": {"window": "full_phase"},
    "transient.crossing_times": {},
    "transient.relaxation": {},
}


def of_phases(rounds: int) -> list[dict[str, Any]]:
    """Time reading and features of every phase, in CPU time for a phase of 100 samples."""
    n_steps, n_cycles = 20, 10
    with tempfile.TemporaryDirectory() as folder:
        device = simulate_device(
            1, n_transfer=1, n_transient=n_steps, n_cycles=n_cycles, sample_rate=1e3, period=0.2
        )
        experiment = of.Experiment(device.write(Path(folder) / "device.h5"))
        steps = [experiment.step("transient", i) for i in range(n_steps)]
        n_phases = 2 * n_cycles * n_steps

        def read() -> None:
            for i in range(n_steps):
                experiment.step("transient", i)["drain_current"].sum()

        calls: dict[str, Callable[[], Any]] = {"reading": read}
        known = ("original_time", "drain_current", "sampling_interval", "gate_period", "duty_cycle")
        batch = of.Batch.from_steps([{name: step[name] for name in known} for step in steps])
        for name, params in FEATURES.items():
            one = of.get_extractor(name, params)
            calls[name] = lambda one=one: one.extract_batch(batch, one.params)
        rows = []
        for name, call in calls.items():
            call()
            took = statistics.median(timed(call, n_phases) for _ in range(rounds))
            rows.append({"of a phase": name, "µs": 1e6 * took})
        return rows


def main() -> None:
    """Run the benchmark."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--cases", type=int, default=0)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    about = _machine.describe()
    _machine.check_load(abort=False)
    rows = []
    for name, model in MODELS.items():
        y, truths = windows(model, options.windows)
        fit_all(y, model)
        calls = {"oectflow": lambda y=y, model=model: fit_all(y, model)}
        calls |= others(y, truths, model)
        seconds: dict[str, list[float]] = {who: [] for who in calls}
        for _ in range(options.rounds):
            for who, call in calls.items():
                n_fits = len(y) if who == "oectflow" else len(range(0, len(y), PART))
                seconds[who].append(timed(call, n_fits))
        took = {who: statistics.median(times) for who, times in seconds.items()}
        row: dict[str, Any] = {"model": name, "fits per second": 1 / took["oectflow"]}
        row |= {f"{who} µs": 1e6 * each for who, each in took.items()}
        row |= {f"{who} ×": each / took["oectflow"] for who, each in took.items()}
        if options.cases:
            rng = np.random.default_rng(options.seed)
            row["beaten"] = sum(is_beaten(model, rng) for _ in range(options.cases))
            row["of"] = options.cases
        if options.many:
            row["less found"] = count_beaten(model, options.many, options.seed)
            row["of many"] = options.many // len(LENGTHS) * len(LENGTHS)
        rows.append(row)
    _machine.report(
        "A phase of 100 samples: CPU time", of_phases(options.rounds), None, machine=about
    )
    _machine.report(
        "Fits of 100 samples: CPU time of one, and over that of this package",
        rows, options.json, hidden=("oectflow ×",), machine=about,
    )  # fmt: skip


if __name__ == "__main__":
    main()
