"""Coefficients of every wavelet, mode, level and length against PyWavelets.

``python benchmarks/wavelet_parity.py`` compares all discrete wavelets in all modes, at levels 1 to
6 and for lengths 1 to 70 and 99 to 1001, in float64 and float32, with PyWavelets in float64, and
prints for each mode the largest error relative to the largest coefficient of the transform, and
where it is.  Ten minutes on one core; ``--stride 10`` takes every tenth length.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pywt
from numpy.typing import NDArray

from oectflow.extractors.dwt import MODES, Mode, Precision, wavedec

LEVELS = 6
LENGTHS = (*range(1, 71), *range(99, 1002))


def reference(x: NDArray[np.float64], wavelet: str, mode: Mode) -> list[list[NDArray[np.float64]]]:
    """Return PyWavelets' coefficients for level 1, 2, ..., as far as it can."""
    levels: list[list[NDArray[np.float64]]] = []
    approximation, details = x, []
    for _ in range(LEVELS):
        # PyWavelets refuses to reflect a single sample.
        if "reflect" in mode and approximation.size == 1:
            break
        approximation, detail = pywt.dwt(approximation, wavelet, mode)
        details.insert(0, detail)
        levels.append([approximation, *details])
    return levels


def largest_errors(
    wavelet: str, mode: Mode, stride: int
) -> dict[Precision, tuple[float, str, int]]:
    """Return for each precision the largest error, where it is, and how many were compared."""
    worst: dict[Precision, tuple[float, str, int]] = {
        "float64": (0.0, "", 0),
        "float32": (0.0, "", 0),
    }
    bank = pywt.Wavelet(wavelet)
    for n in LENGTHS[::stride]:
        x32 = np.random.default_rng(n).normal(size=n).astype(np.float32)
        for level, want in enumerate(reference(x32.astype(np.float64), bank, mode), 1):
            largest = max(float(np.abs(band).max()) for band in want)
            for dtype, (error, where, count) in worst.items():
                found = wavedec(x32, wavelet, level, mode, dtype)
                new = max(float(np.abs(a - b).max()) for a, b in zip(found, want, strict=True)) / (
                    largest or 1.0
                )
                if not new <= error:
                    error, where = new, f"{wavelet}, {mode}, level {level}, {n} samples"
                worst[dtype] = (error, where, count + 1)
    return worst


def main() -> None:
    """Compare everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="take every so-manieth length")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    start = time.process_time()
    for mode in MODES:
        results = [
            largest_errors(wavelet, mode, options.stride)
            for wavelet in pywt.wavelist(kind="discrete")
        ]
        for dtype in ("float64", "float32"):
            error, where, _ = max(result[dtype] for result in results)
            count = sum(result[dtype][2] for result in results)
            print(f"{mode:<12} {dtype}  {count:>8} transforms  {error:.2e}  ({where})", flush=True)
    print(f"{time.process_time() - start:.0f} s")


if __name__ == "__main__":
    main()
