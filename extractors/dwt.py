"""Wavelet transforms and wavelet features of arrays: the layer between kernels and users."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pywt
from numpy.typing import ArrayLike, NDArray

from oectflow.errors import ParameterError, did_you_mean
from oectflow.extractors.kernels import padding, wavelets

Mode = Literal["symmetric", "smooth", "antireflect", "reflect", "periodic", "zero", "constant"]
MODES: tuple[Mode, ...] = get_args(Mode)
Detrend = Literal["mean", "none"]
Precision = Literal["float64", "float32"]
Level = int | Literal["adaptive"]

_MODE_CODES: dict[Mode, int] = {
    "symmetric": padding.SYMMETRIC,
    "smooth": padding.SMOOTH,
    "antireflect": padding.ANTIREFLECT,
    "reflect": padding.REFLECT,
    "periodic": padding.PERIODIC,
    "zero": padding.ZERO,
    "constant": padding.CONSTANT,
}
#: Outcome of a series: code of the kernel -> word.
OUTCOMES = ("ok", "short", "flat", "nan", "no_data")


@lru_cache
def filters(wavelet: str, dtype: Precision) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the low-pass and the high-pass filter of a discrete wavelet of PyWavelets.

    Parameters
    ----------
    wavelet
        A name in ``pywt.wavelist(kind="discrete")``, e.g. ``"db4"``.
    dtype
        Precision of the computation.

    Returns
    -------
    Decomposition filters in reversed order, as they meet the samples.  Shape (n_taps,) each.

    Raises
    ------
    ParameterError
        There is no such discrete wavelet.
    """
    known = pywt.wavelist(kind="discrete")
    if wavelet not in known:
        raise ParameterError(
            f"{wavelet!r} is not a discrete wavelet of PyWavelets{did_you_mean(wavelet, known)}"
        )
    bank = pywt.Wavelet(wavelet)
    return np.array(bank.dec_lo[::-1], dtype), np.array(bank.dec_hi[::-1], dtype)


def band_names(level: Level) -> tuple[str, ...]:
    """Return the names of the bands, coarse to fine: ``("cA", "cD3", "cD2", "cD1")``."""
    depth = wavelets.ADAPTIVE_MOST if level == "adaptive" else level
    return ("cA", *(f"cD{j}" for j in range(depth, 0, -1)))


class WaveletFeatures(NamedTuple):
    """Statistics of the wavelet bands of R series; NaN if a series has none.

    Attributes
    ----------
    bands
        Names of the bands, coarse to fine, B of them.
    energy, relative_energy, relative_detail_energy, std, mean_abs, max_abs
        Per band: sum of squares, its share of all bands and of the detail bands, standard
        deviation, mean and maximum of the magnitude.  Shape (R, B).
    entropy, detail_entropy
        Shannon entropy of the shares, of all bands and of the detail bands, in nats.  Shape (R,).
    trend
        Slope of the series per sample: least squares through those coefficients of cA that no
        padding touches, divided by ``2**(1.5 level)``.  Shape (R,).
    snr
        ``20 log10(std(cA) / std(cD1))``, in dB.  Shape (R,).
    noise_sigma
        ``median(|cD1|) / 0.6745`` [1]_.  Shape (R,).
    level
        Number of levels computed, -1 if there is no answer.  Shape (R,), int64.
    outcome
        Index into :data:`OUTCOMES`.  Shape (R,), int8.

    References
    ----------
    .. [1] Donoho & Johnstone (1994), Biometrika 81, 425. doi:10.1093/biomet/81.3.425
    """

    bands: tuple[str, ...]
    energy: NDArray[np.float64]
    relative_energy: NDArray[np.float64]
    relative_detail_energy: NDArray[np.float64]
    std: NDArray[np.float64]
    mean_abs: NDArray[np.float64]
    max_abs: NDArray[np.float64]
    entropy: NDArray[np.float64]
    detail_entropy: NDArray[np.float64]
    trend: NDArray[np.float64]
    snr: NDArray[np.float64]
    noise_sigma: NDArray[np.float64]
    level: NDArray[np.int64]
    outcome: NDArray[np.int8]


def wavelet_features(
    x: NDArray[Any],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
    *,
    wavelet: str = "db4",
    level: Level = 3,
    mode: Mode = "smooth",
    detrend: Detrend = "mean",
    dtype: Precision = "float64",
) -> WaveletFeatures:
    """Compute the wavelet features of many series, with the same bits as one by one.

    Parameters
    ----------
    x
        Samples of all series, float64 or float32.  Shape (n_samples,).
    begins, ends
        Series r is ``x[begins[r] : ends[r]]``.  Shape (R,).
    wavelet
        Discrete wavelet of PyWavelets.
    level
        Number of levels.  A series with fewer than ``(n_taps - 1) 2**level`` samples gets fewer
        levels, and the outcome ``short``.  ``"adaptive"``: 2 for fewer than 200 samples, 3 for
        fewer than 500, else 4.
    mode
        Continuation of a series beyond its ends.  A transient is neither periodic nor mirrored:
        ``smooth`` leaves 40 times less of the edges in the detail bands than ``symmetric``, the
        default of PyWavelets.
    detrend
        ``"mean"`` subtracts the mean, in float64.
    dtype
        Precision of the transform; float32 is good to six digits of a band's largest coefficient.

    Raises
    ------
    ParameterError
        There is no such discrete wavelet.
    """
    low, high = filters(wavelet, dtype)
    names = band_names(level)
    n_series = begins.size
    bands = np.empty((n_series, len(names), wavelets.N_BAND))
    rows = np.empty((n_series, wavelets.N_SERIES))
    levels = np.empty(n_series, np.int64)
    codes = np.empty(n_series, np.int8)
    width = int((ends - begins).max(initial=0)) + 2 * low.size
    work = np.empty(width, dtype)
    integer = f"int{8 * low.itemsize}"
    wavelets.statistics(
        x,
        begins,
        ends,
        wavelets.ADAPTIVE if level == "adaptive" else level,
        low,
        high,
        _MODE_CODES[mode],
        detrend == "mean",
        work,
        work.view(integer),
        np.empty((2, width), integer),
        bands,
        rows,
        levels,
        codes,
    )
    return WaveletFeatures(
        names,
        bands[..., wavelets.ENERGY],
        bands[..., wavelets.RELATIVE],
        bands[..., wavelets.RELATIVE_DETAIL],
        bands[..., wavelets.STD],
        bands[..., wavelets.MEAN_ABS],
        bands[..., wavelets.MAX_ABS],
        rows[:, wavelets.ENTROPY],
        rows[:, wavelets.DETAIL_ENTROPY],
        rows[:, wavelets.TREND],
        rows[:, wavelets.SNR],
        rows[:, wavelets.NOISE_SIGMA],
        levels,
        codes,
    )


def wavedec(
    x: ArrayLike,
    wavelet: str = "db4",
    level: int = 3,
    mode: Mode = "symmetric",
    dtype: Precision = "float64",
) -> list[NDArray[Any]]:
    """Transform series along the last axis, as ``pywt.wavedec`` does.

    Parameters
    ----------
    x
        Series.  Shape (..., n), n >= 1.
    wavelet, mode, dtype
        As in :func:`wavelet_features`.
    level
        Number of levels.  It may exceed what fits; every coefficient then depends on the padding.

    Returns
    -------
    ``[cA, cD of the last level, ..., cD1]``, each of shape (..., m): views of one array.

    Raises
    ------
    ValueError
        A series has no sample.
    ParameterError
        There is no such discrete wavelet or mode, or the level is negative.
    """
    low, high = filters(wavelet, dtype)
    if mode not in _MODE_CODES:
        raise ParameterError(f"{mode!r} is not a boundary mode{did_you_mean(mode, MODES)}")
    if level < 0:
        raise ParameterError(f"level={level}: must not be negative")
    given = np.asarray(x)
    if given.ndim == 0 or given.shape[-1] == 0:
        raise ValueError(f"shape {given.shape}: a series must have at least one sample")
    rows = np.ascontiguousarray(given.reshape(-1, given.shape[-1]), _precise(given.dtype))
    lengths = [rows.shape[1]]
    for _ in range(level):
        lengths.append((lengths[-1] + low.size - 1) // 2)
    sizes = [lengths[-1], *lengths[:0:-1]]
    out = np.empty((rows.shape[0], sum(sizes)), dtype)
    wavelets.coefficients(rows, level, low, high, _MODE_CODES[mode], out)
    parts = np.split(out, np.cumsum(sizes)[:-1], axis=1)
    return [part.reshape(*given.shape[:-1], part.shape[1]) for part in parts]


def _precise(dtype: np.dtype[Any]) -> type[np.float32] | type[np.float64]:
    """Return the type of the numbers for the kernels; float32 is kept."""
    return np.float32 if dtype == np.float32 else np.float64
