"""What intervals of groups hold of what they promise, and a test of all cycles in one heap.

Groups are simulated whose chips, devices, steps and cycles scatter by known standard deviations,
with no difference between them.  Said is how often the 95 % interval of a mean, of a difference and
of Hedges' g holds the truth, and how often each test finds a difference at 5 % that is not there::

    python benchmarks/compare.py [--repeats 2000]
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import xarray as xr
from scipy import stats

import oectflow as of

#: Chips of both groups, devices of each, standard deviations of chips, devices, steps and cycles.
CASES = (
    ((3, 3), 4, (1.0, 1.0, 1.0, 1.0)),
    ((5, 5), 4, (1.0, 1.0, 1.0, 1.0)),
    ((4, 8), 3, (1.0, 1.0, 1.0, 1.0)),
    ((10, 10), 3, (1.0, 1.0, 0.5, 0.5)),
    ((5, 5), 4, (0.0, 1.0, 1.0, 1.0)),
    ((5, 5), 4, (0.0, 0.0, 1.0, 1.0)),
    ((1, 1), 8, (0.0, 1.0, 1.0, 1.0)),
)
STEPS, CYCLES = 4, 6


def simulate(
    rng: np.random.Generator, chips: tuple[int, int], devices: int, sd: tuple[float, ...]
) -> xr.Dataset:
    """Return results of two batches with a mean of 0."""
    n = sum(chips)
    shape = (n, devices, STEPS, CYCLES)
    values = np.zeros(shape)
    for level, deviation in enumerate(sd):
        own = deviation * rng.standard_normal(shape[: level + 1])
        values += own.reshape(own.shape + (1,) * (3 - level))
    names = [f"{chip}-{device}" for chip in range(n) for device in range(devices)]
    batches = np.repeat(["a", "b"], chips)
    return xr.Dataset(
        {"x": (("experiment", "step", "cycle"), values.reshape(-1, STEPS, CYCLES))},
        {
            "experiment": names,
            "chip_id": ("experiment", np.repeat([f"chip {k}" for k in range(n)], devices)),
            "device_id": ("experiment", [str(k) for _ in range(n) for k in range(devices)]),
            "sample_batch": ("experiment", np.repeat(batches, devices)),
        },
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=2000)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(21)
    print("| chips | devices | sd | mean | difference | effect | ours finds | naive finds |")
    for chips, devices, sd in CASES:
        hits = np.zeros(5)
        for _ in range(repeats):
            results = simulate(rng, chips, devices, sd)
            found = of.compare(results, "x", "batch", n_draws=400)
            one, pair = found.isel(group=0), found.isel(pair=0)
            heaps = [
                results["x"].values[results["sample_batch"].values == name].ravel() for name in "ab"
            ]
            hits += (
                float(one["estimate_low"]) <= 0 <= float(one["estimate_high"]),
                float(pair["difference_low"]) <= 0 <= float(pair["difference_high"]),
                float(pair["effect_size_low"]) <= 0 <= float(pair["effect_size_high"]),
                float(pair["p_value"]) < 0.05,
                stats.ttest_ind(*heaps).pvalue < 0.05,
            )
        shares = " | ".join(f"{100 * share:.1f} %" for share in hits / repeats)
        error = 100 * math.sqrt(0.95 * 0.05 / repeats)
        print(f"| {chips} | {devices} | {sd} | {shares} |  (± {error:.1f} %)", flush=True)


if __name__ == "__main__":
    main()
