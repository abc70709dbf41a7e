"""Wavelet transform, features and prompts against PyWavelets, and what a cache is worth.

``python benchmarks/wavelets.py [--json PATH] [--rounds N]`` prints the tables.  Times are those the
process spent on its core, which does not count waiting for it.  In every round all arms of a row
run once, in random order, so that whatever else the machine does meets all of them; a ratio is the
median over the rounds of one arm's time by another's in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _machine
import numpy as np
import pywt
from numpy.typing import NDArray

from oectflow.extractors.base import BaseExtractor, extractor_names, get_extractor
from oectflow.extractors.cache import content_key
from oectflow.extractors.dwt import wavedec, wavelet_features
from oectflow.extractors.prompts import DWTPromptGenerator
from oectflow.measurement import Batch

WAVELET = "db4"
LEVEL = 3
#: Shortest time of one measurement, a thousand times that of reading the clock.
SHORTEST_S = 2e-3
Arms = dict[str, Callable[[], Any]]


def measure(arms: Arms, rounds: int) -> dict[str, list[float]]:
    """Return the time of every arm in every round, in s; the arms are compiled before."""
    repeats = {}
    for name, arm in arms.items():
        arm()
        start = time.process_time()
        arm()
        repeats[name] = max(1, int(SHORTEST_S / max(time.process_time() - start, 1e-7)))
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name in rng.permutation(list(arms)):
            start = time.process_time()
            for _ in range(repeats[name]):
                arms[name]()
            times[name].append((time.process_time() - start) / repeats[name])
    return times


def numpy_features(x: NDArray[Any], level: int = LEVEL) -> dict[str, NDArray[Any]]:
    """Compute what :func:`wavelet_features` does with PyWavelets and NumPy, trend by polyfit."""
    x = x - x.mean(axis=-1, keepdims=True)
    bands = pywt.wavedec(x, WAVELET, "smooth", level)
    squares = [c * c for c in bands]
    magnitudes = [np.abs(c) for c in bands]
    energy = np.stack([c.sum(axis=-1) for c in squares], axis=-1)
    share = energy / energy.sum(axis=-1, keepdims=True)
    detail = energy[..., 1:] / energy[..., 1:].sum(axis=-1, keepdims=True)
    inner = bands[0][..., 7:-7]
    k = np.arange(inner.shape[-1]) - (inner.shape[-1] - 1) / 2
    std = np.stack([c.std(axis=-1) for c in bands], axis=-1)
    return {
        "energy": energy,
        "relative_energy": share,
        "relative_detail_energy": detail,
        "std": std,
        "mean_abs": np.stack([c.mean(axis=-1) for c in magnitudes], axis=-1),
        "max_abs": np.stack([c.max(axis=-1) for c in magnitudes], axis=-1),
        "entropy": -(share * np.log(share)).sum(axis=-1),
        "detail_entropy": -(detail * np.log(detail)).sum(axis=-1),
        "trend": inner @ k / max(k @ k, 1.0),
        "snr": 20 * np.log10(std[..., 0] / std[..., -1]),
        "noise_sigma": np.median(magnitudes[-1], axis=-1) / 0.6745,
    }


def our_features(x: NDArray[Any], **options: Any) -> Any:
    """Compute the features of the rows of ``x``."""
    begins = np.arange(len(x)) * x.shape[1]
    return wavelet_features(x.reshape(-1), begins, begins + x.shape[1], **options)


def row(table: str, case: str, arms: Arms, rounds: int, n_samples: int) -> dict[str, Any]:
    """Measure one row; the first arm is what the others are compared with."""
    times = measure(arms, rounds)
    first = next(iter(times))
    return {
        "table": table,
        "case": case,
        "arms": {
            name: {
                "min_us": 1e6 * min(t),
                "median_us": 1e6 * statistics.median(t),
                "ns_per_sample": 1e9 * min(t) / n_samples,
                "times_faster": statistics.median(
                    a / b for a, b in zip(times[first], t, strict=True)
                ),
            }
            for name, t in times.items()
        },
    }


def transforms(rounds: int) -> Iterator[dict[str, Any]]:
    """Compare coefficients and features, of many series and of one."""
    rng = np.random.default_rng(1)
    cases = [
        (dtype, rng.normal(size=(max(1, 100_000 // n), n)).astype(dtype))
        for dtype in ("float64", "float32")
        for n in (100, 336, 1000, 10_000)
    ]
    for dtype, x in cases:
        yield row(
            "coefficients, symmetric",
            f"{dtype}, {len(x)} x {x.shape[1]}",
            {
                "PyWavelets": lambda x=x: pywt.wavedec(x, WAVELET, "symmetric", LEVEL),
                "ours": lambda x=x, d=dtype: wavedec(x, WAVELET, LEVEL, "symmetric", d),
            },
            rounds,
            x.size,
        )
    for n in (100, 1000, 10_000):
        x = rng.normal(size=n)
        yield row(
            "coefficients, symmetric",
            f"float64, one series of {n}",
            {
                "PyWavelets": lambda x=x: pywt.wavedec(x, WAVELET, "symmetric", LEVEL),
                "ours": lambda x=x: wavedec(x, WAVELET, LEVEL, "symmetric"),
            },
            rounds,
            x.size,
        )
    for dtype, x in cases:
        yield row(
            "all features, smooth",
            f"{dtype}, {len(x)} x {x.shape[1]}",
            {
                "PyWavelets + NumPy": lambda x=x: numpy_features(x),
                "ours": lambda x=x, d=dtype: our_features(x, dtype=d),
            },
            rounds,
            x.size,
        )
    for n in (100, 1000, 10_000):
        x = rng.normal(size=(1, n))
        yield row(
            "all features, smooth",
            f"float64, one series of {n}",
            {
                "PyWavelets + NumPy": lambda x=x[0]: numpy_features(x),
                "ours": lambda x=x: our_features(x),
            },
            rounds,
            x.size,
        )


def batches(rounds: int) -> Iterator[dict[str, Any]]:
    """Compare ways to compute the features of (B, 7, T) series."""
    rng = np.random.default_rng(2)
    for n in (336, 512):
        for b in (1, 2, 4, 8, 16, 32, 64):
            x = rng.normal(size=(b * 7, n)).cumsum(axis=1)
            single = x.astype(np.float32)
            yield row(
                "features of (B, 7, T)",
                f"({b}, 7, {n})",
                {
                    "PyWavelets, loop": lambda x=x: [numpy_features(s) for s in x],
                    "PyWavelets, batch": lambda x=x: numpy_features(x),
                    "ours, loop": lambda x=x: [our_features(s[None]) for s in x],
                    "ours, batch": lambda x=x: our_features(x),
                    "float32": lambda x=single: our_features(x, dtype="float32"),
                    "adaptive": lambda x=x: our_features(x, level="adaptive"),
                },
                rounds,
                x.size,
            )


def requests(shape: tuple[int, ...], hits: float, seed: int) -> list[NDArray[np.float64]]:
    """Return 100 arrays of which the share ``hits`` has been there before."""
    rng = np.random.default_rng(seed)
    seen: list[NDArray[np.float64]] = []
    wanted: list[NDArray[np.float64]] = []
    for i in range(100):
        repeated = i >= 1 and i % 100 >= round(100 * (1 - hits))
        if not repeated or not seen:
            seen.append(rng.normal(size=shape).cumsum(axis=-1))
            wanted.append(seen[-1])
        else:
            wanted.append(seen[rng.integers(len(seen))])
    return wanted


def caches(rounds: int) -> Iterator[dict[str, Any]]:
    """Compare 100 requests with and without cache, at given shares of hits; every round anew."""
    for method, shape in (
        ("features", (1, 1, 336)),
        ("features", (32, 7, 336)),
        ("prompts", (1, 7, 336)),
    ):
        for hits in (0.0, 0.5, 0.9, 0.99):
            arrays = requests(shape, hits, 3)

            def ask(size: int, method: str = method, arrays: list[Any] = arrays) -> None:
                generator = DWTPromptGenerator(cache_size=size)
                for x in arrays:
                    getattr(generator, method)(x)

            yield row(
                "100 requests, cache",
                f"{method}{shape}, {100 * hits:.0f} % hits",
                {"without": lambda ask=ask: ask(0), "with": lambda ask=ask: ask(1_000_000)},
                rounds,
                100 * int(np.prod(shape)),
            )


def blocks(rounds: int) -> Iterator[dict[str, Any]]:
    """Compare each extractor on a block of steps with hashing that block.

    The inverse of the ratio is the share of blocks that would have to be there again, in the same
    worker, for a cache of results to pay.
    """
    rng = np.random.default_rng(4)
    up = np.linspace(-0.2, 0.8, 100)
    vg = np.concatenate([up, up[-2::-1]])
    k = np.arange(5000)
    phase = np.where(k // 50 % 2, 1 - np.exp(-(k % 50) / 8), np.exp(-(k % 50) / 8))
    steps: dict[str, list[dict[str, Any]]] = {"transfer": [], "transient": []}
    for _ in range(20):
        current = 1e-3 / (1 + np.exp(-(vg - 0.3) / 0.05)) + 1e-8 * rng.normal(size=vg.size)
        steps["transfer"].append({"Vg": vg, "Id": current})
        steps["transient"].append(
            {
                "continuous_time": 1e-3 * k,
                "original_time": 1e-3 * k,
                "drain_current": 1e-3 * (0.1 + phase) + 1e-6 * rng.normal(size=k.size),
                "sampling_interval": 1e-3,
                "gate_period": 0.1,
                "duty_cycle": 0.5,
            }
        )
    for name in extractor_names():
        extractor = get_extractor(name)
        batch = Batch.from_steps(steps[extractor.source])

        def compute(extractor: BaseExtractor = extractor, batch: Batch = batch) -> None:
            if extractor.extract_batch is not None:
                extractor.extract_batch(batch, extractor.params)
            else:
                for i in range(len(batch)):
                    extractor.extract_step(batch.step(i))

        def look_up(name: str = name, batch: Batch = batch) -> None:
            for array in batch.arrays.values():
                content_key(name, array)

        n_samples = sum(array.size for array in batch.arrays.values())
        yield row(
            "20 steps, computing and hashing",
            name,
            {"computing": compute, "hashing": look_up},
            rounds,
            n_samples,
        )


def print_row(result: dict[str, Any], last: str) -> str:
    """Print one row, with a heading where a table begins; return the table's name."""
    if result["table"] != last:
        print(f"\n{result['table']}  (median us | best ns per sample | ratio to the first)")
    cells = [
        f"{name} {arm['median_us']:.1f} | {arm['ns_per_sample']:.2f} | {arm['times_faster']:.2f}x"
        for name, arm in result["arms"].items()
    ]
    print(f"{result['case']:<36} " + "   ".join(cells), flush=True)
    return str(result["table"])


def main() -> None:
    """Run all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--rounds", type=int, default=9, help="at least 7; default 9")
    options = parser.parse_args()
    if options.rounds < 7:
        parser.error("--rounds must be at least 7")
    # Loops over series below the level that PyWavelets recommends warn every time.
    warnings.simplefilter("ignore", UserWarning)
    about = _machine.describe()
    versions = (f"{name} {value}" for name, value in about["versions"].items())
    print(
        f"{about['cpu']}, load {about['load']:.1f}, Python {about['python']}, {', '.join(versions)}"
    )
    results, last = [], ""
    for part in (transforms, batches, caches, blocks):
        for result in part(options.rounds):
            results.append(result)
            last = print_row(result, last)
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "results": results}, indent=1))


if __name__ == "__main__":
    main()
