"""The two exponentials and how well a curve fits: plain NumPy functions.

Dimension letters: n samples, W curves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Parameters of both models: A, tau, C.
N_PARAMETERS = 3


def exp_rise(t: ArrayLike, A: float, tau: float, C: float) -> NDArray[np.float64]:
    """Return ``A (1 - exp(-t / tau)) + C``, the process "on".

    Parameters
    ----------
    t
        Time since the begin of the window, any shape, in s.
    A, tau, C
        Amplitude, time constant (s), constant.
    """
    # expm1 keeps the digits where tau is much longer than the window.
    return np.asarray(-A * np.expm1(-np.asarray(t, np.float64) / tau) + C)


def exp_decay(t: ArrayLike, A: float, tau: float, C: float) -> NDArray[np.float64]:
    """Return ``A exp(-t / tau) + C``, the process "off"; parameters as in :func:`exp_rise`."""
    return np.asarray(A * np.exp(-np.asarray(t, np.float64) / tau) + C)


def compute_r_squared(y_data: ArrayLike, y_fit: ArrayLike) -> float:
    """Return ``R2 = 1 - RSS / TSS`` of a curve, NaN where all samples are equal.

    Parameters
    ----------
    y_data, y_fit
        Samples and curve.  Shape (n,).
    """
    return float(batch_r_squared(np.atleast_2d(y_data), np.atleast_2d(y_fit))[0])


def compute_adjusted_r_squared(
    y_data: ArrayLike, y_fit: ArrayLike, n_params: int = N_PARAMETERS
) -> float:
    """Return ``1 - (1 - R2) (n - 1) / (n - p - 1)``, NaN where ``n <= p + 1``.

    Parameters
    ----------
    y_data, y_fit
        Samples and curve.  Shape (n,).
    n_params
        Number p of fitted parameters.
    """
    return adjust(compute_r_squared(y_data, y_fit), np.size(y_data), n_params)


def adjust(r_squared: float, n: int, n_params: int = N_PARAMETERS) -> float:
    """Return adjusted R2 from R2 of ``n`` samples, NaN where ``n <= p + 1``."""
    freedom = n - n_params - 1
    return 1.0 - (1.0 - r_squared) * (n - 1) / freedom if freedom > 0 else float("nan")


def batch_exp_rise(t_batch: ArrayLike, params_batch: ArrayLike) -> NDArray[np.float64]:
    """Return many rises at the same times.

    Parameters
    ----------
    t_batch
        Times.  Shape (n,), in s.
    params_batch
        A, tau, C of each curve.  Shape (W, 3).

    Returns
    -------
    Shape (W, n).
    """
    A, tau, C = np.asarray(params_batch, np.float64).T[:, :, np.newaxis]
    return np.asarray(-A * np.expm1(-np.asarray(t_batch, np.float64) / tau) + C)


def batch_r_squared(y_data_batch: ArrayLike, y_fit_batch: ArrayLike) -> NDArray[np.float64]:
    """Return R2 of many curves, NaN where all samples of a curve are equal.

    Parameters
    ----------
    y_data_batch, y_fit_batch
        Samples and curves.  Shape (W, n).

    Returns
    -------
    Shape (W,).
    """
    y = np.asarray(y_data_batch, np.float64)
    residual = y - np.asarray(y_fit_batch, np.float64)
    centred = y - y.mean(axis=1, keepdims=True)
    rss, tss = (residual**2).sum(axis=1), (centred**2).sum(axis=1)
    return np.where(tss > 0.0, 1.0 - rss / np.where(tss > 0.0, tss, 1.0), np.nan)


def normalize_signal(signal: ArrayLike) -> NDArray[np.float64]:
    """Return a signal brought to the range 0 to 1; zeros where it is constant."""
    y = np.asarray(signal, np.float64)
    low, span = y.min(), np.ptp(y)
    return np.asarray((y - low) / span) if span > 0.0 else np.zeros_like(y)
