"""Figures of impedance spectra, from the fit of a Randles circuit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray

from oectflow.extractors import base
from oectflow.extractors.base import OK, BaseExtractor, Columns, Variable, register
from oectflow.extractors.channel import (
    GEOMETRY_KEYS,
    PER_VOLUME,
    error_of,
    factor_of,
    no_geometry,
)
from oectflow.measurement import Batch

_RANDLES = "Randles (1947), Discuss. Faraday Soc. 1, 11. doi:10.1039/df9470100011"
_RIVNAY = "Rivnay et al. (2015), Sci. Adv. 1, e1400251. doi:10.1126/sciadv.1400251"
_FIT = (
    "Z = Rs + R / (1 + jwRC) is fitted to real and imaginary part together by least squares, each "
    "point divided by its |Z|; the least sum of all time constants RC counts."
)
#: With fewer points, no residual is left to judge the circuit by.
_FEWEST = 5
#: A larger value, in Ω, is an overflow mark of the instrument.
_OVERFLOW = 1e30
#: Number of time constants that are tried per decade.
_PER_DECADE = 12
#: Beyond the measured frequencies by this factor, R or C acts alone.
_BEYOND = 1e3
#: Studentised residual of an outlier: one in 1e5 spectra of 50 points of white noise.
_OUTLIER, _MOST_OUTLIERS = 6.0, 2
#: A correlation of neighbouring residuals beyond this many standard deviations is not chance: it
#: occurs in one of 1,000 spectra of white noise.
_STRUCTURE_Z = 3.3
#: A misfit smaller than this share of |Z| changes no figure by more than its standard error.
_HARMLESS = 0.003
#: A figure is not known if its standard error is a larger share of it.
_UNKNOWN = 0.5

#: Words for a spectrum that gives no figure, or a doubtful one; later words take precedence.
_WORDS = {
    "outlier": "a point far from the fit was left out",
    "overflow": "overflow marks of the instrument were left out",
    "not_randles": "the residuals have a structure: two resistors and a capacitor do not describe "
    "the spectrum",
    "unknown": "the frequencies do not tell it: its standard error is more than half of it",
    "inductive": "no capacitor: the imaginary part is not negative",
    "too_few": f"fewer than {_FEWEST} points with a frequency above 0 and a finite impedance",
}


@dataclass(frozen=True)
class Randles:
    """Fit of a spectrum.

    Attributes
    ----------
    Rs, elastance, rate
        Series resistance in Ω; 1 / C in 1 / F; 1 / RC in 1 / s, 0 if the capacitor blocks.
    covariance
        Of these three.  Shape (3, 3).
    word
        ``""``, or one of the status words.
    """

    Rs: float = math.nan
    elastance: float = math.nan
    rate: float = math.nan
    covariance: NDArray[np.float64] | None = None
    word: str = ""


def fit_randles(frequency: NDArray[Any], real: NDArray[Any], imag: NDArray[Any]) -> Randles:
    """Fit a resistor in series with a capacitor and a resistor in parallel.

    For a given ``1 / RC``, the circuit is linear in the series resistance and ``1 / C``, also if no
    current passes the capacitor.

    Parameters
    ----------
    frequency
        In Hz, in any order.  Shape (n,).
    real, imag
        Impedance in Ω; points that are not finite are left out.  Shape (n,).

    Returns
    -------
    The fit with the least sum of squares of relative deviations.

    References
    ----------
    Weights: Boukamp (1986), Solid State Ionics 20, 31. doi:10.1016/0167-2738(86)90031-7
    """
    Z = real + 1j * imag
    marks = np.isfinite(Z) & ((np.abs(real) >= _OVERFLOW) | (np.abs(imag) >= _OVERFLOW))
    usable = np.isfinite(frequency) & (frequency > 0) & np.isfinite(Z) & ~marks & (Z != 0)
    order = np.argsort(frequency[usable], kind="stable")
    w, Z = 2 * np.pi * frequency[usable][order], Z[usable][order]
    word = "overflow" if marks.any() else ""
    for left_out in range(_MOST_OUTLIERS + 1):
        if Z.size < _FEWEST:
            return Randles(word="too_few")
        if not np.median(Z.imag) < 0:
            return Randles(word="inductive")
        fit, residuals, leverage = _fit(w, Z)
        at = _outlier(residuals, leverage)
        if at is None:
            break
        if left_out == _MOST_OUTLIERS:
            return Randles(fit.Rs, fit.elastance, fit.rate, fit.covariance, "not_randles")
        w, Z = np.delete(w, at), np.delete(Z, at)
        word = word or "outlier"
    if not fit.elastance > 0:
        return Randles(word="inductive")
    if _has_structure(residuals):
        word = "not_randles"
    return Randles(fit.Rs, fit.elastance, fit.rate, fit.covariance, word)


def _fit(
    w: NDArray[np.float64], Z: NDArray[np.complex128]
) -> tuple[Randles, NDArray[np.float64], NDArray[np.float64]]:
    """Return the fit, its relative residuals and their leverages, of shape (2, n)."""
    weight = 1 / np.abs(Z)
    first = np.concatenate([weight, np.zeros_like(w)])
    target = np.concatenate([Z.real * weight, Z.imag * weight])

    def second(rate: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the factor of 1 / C in the model, for many rates.  Shape (n_rates, 2 n)."""
        shape = weight / (rate[:, None] + 1j * w)
        return np.concatenate([shape.real, shape.imag], axis=1)

    def solved(rate: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (Rs, 1 / C) and the sum of squares.  Shapes (2, n_rates), (n_rates,)."""
        b = second(rate)
        aa, at, ab = first @ first, first @ target, b @ first
        bb, bt = np.einsum("ij,ij->i", b, b), b @ target
        # A resistance is not negative.
        Rs = np.maximum((at * bb - ab * bt) / (aa * bb - ab**2), 0.0)
        elastance = (bt - Rs * ab) / bb
        residuals = target - Rs[:, None] * first - elastance[:, None] * b
        return np.stack([Rs, elastance]), np.einsum("ij,ij->i", residuals, residuals)

    low, high = math.log(w[0] / _BEYOND), math.log(w[-1] * _BEYOND)
    n_rates = 2 + int(_PER_DECADE * (high - low) / math.log(10))
    grid = np.concatenate([[0.0], np.exp(np.linspace(low, high, n_rates))])
    best = int(np.argmin(solved(grid)[1]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, n_rates)]
    refined = scipy.optimize.minimize_scalar(
        lambda rate: solved(np.array([rate]))[1][0],
        bounds=bounds, method="bounded", options={"xatol": 1e-9 * bounds[1]},
    )  # fmt: skip
    rates = np.array([0.0, refined.x])
    rate = rates[np.argmin(solved(rates)[1])]
    parameters, sums = solved(np.array([rate]))
    Rs, elastance = parameters[:, 0]
    slope = -elastance * weight / (rate + 1j * w) ** 2
    J = np.stack([first, second(np.array([rate]))[0], np.concatenate([slope.real, slope.imag])], 1)
    free = np.array([Rs > 0, True, True])
    # Columns are scaled to one size; otherwise the inverse would be rounding.
    size = np.where(free, np.linalg.norm(J, axis=0), 1.0)
    scaled = (J / size)[:, free]
    inverse = np.linalg.pinv(scaled.T @ scaled)
    covariance = np.zeros((3, 3))
    variance = sums[0] / max(2 * w.size - int(free.sum()), 1)
    covariance[np.ix_(free, free)] = inverse * variance / np.outer(size[free], size[free])
    residuals = target - J[:, :2] @ parameters[:, 0]
    leverage = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
    fit = Randles(float(Rs), float(elastance), float(rate), covariance)
    return fit, residuals.reshape(2, -1), leverage.reshape(2, -1)


def _outlier(residuals: NDArray[np.float64], leverage: NDArray[np.float64]) -> int | None:
    """Return the point whose studentised residual is too large for noise, if there is one."""
    squares = residuals**2
    others = (squares.sum() - squares) / max(squares.size - 4, 1)
    # The residuals of an exact fit are rounding.
    allowed = _OUTLIER**2 * np.maximum(1 - leverage, 1e-3) * np.maximum(others, 1e-18)
    beyond = np.max(squares / allowed, axis=0)
    # With few points, large ratios are not exceptional (Student).
    freedom = squares.size - 5.0
    return int(np.argmax(beyond)) if beyond.max() > (1 + 8 / freedom) ** 2 else None


def _has_structure(residuals: NDArray[np.float64]) -> bool:
    """Return whether neighbouring residuals are correlated by more than is harmless."""
    squares = float(np.sum(residuals**2))
    if not squares > residuals.size * _HARMLESS**2:
        return False
    near = float(np.sum(residuals[:, 1:] * residuals[:, :-1]))
    return near / squares * math.sqrt(residuals.size) > _STRUCTURE_Z


class _ImpedanceFigure(BaseExtractor):
    """A number of a Randles circuit fitted to a spectrum."""

    # There are no parameters; a given one is an error.
    Params: ClassVar[type[base.Params] | None] = base.Params

    source = "impedance"
    reference = _RANDLES
    statuses: ClassVar[Mapping[str, str]] = _WORDS

    @property
    def arrays(self) -> tuple[str, ...]:
        """Frequency and impedance."""
        return ("frequency", "Z_real", "Z_imag")

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, its status and its standard error."""
        return super().variables | {
            "stderr": Variable(self.unit, f"standard error of {self.name}, from the residuals")
        }

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Fit many spectra, one after the other.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps,).
        """
        del params
        words = list(self.variables["status"].statuses)
        value, stderr = np.full((2, len(batch)), np.nan)
        status = np.full(len(batch), OK, np.int8)
        for i in range(len(batch)):
            step = slice(batch.offsets[i], batch.offsets[i + 1])
            fit = fit_randles(*(np.asarray(batch.arrays[name][step]) for name in self.arrays))
            word = fit.word
            if fit.covariance is not None:
                value[i], gradient = self.figure(fit)
                stderr[i] = math.sqrt(gradient @ fit.covariance @ gradient)
                known = math.isfinite(value[i]) and stderr[i] <= _UNKNOWN * abs(value[i])
                if not known and word != "not_randles":
                    value[i] = stderr[i] = np.nan
                    word = "unknown"
            if word:
                status[i] = words.index(word)
        return {"value": value, "status": status, "stderr": stderr}

    def figure(self, fit: Randles) -> tuple[float, NDArray[np.float64]]:
        """Return the number, and its derivatives by ``Rs``, ``elastance`` and ``rate``."""
        raise NotImplementedError


@register("impedance.capacitance")
class Capacitance(_ImpedanceFigure):
    """Capacitance of the channel or the gate, from a fitted Randles circuit."""

    unit = "F"
    description = "capacitance of a Randles circuit"
    definition = f"C of the circuit. {_FIT} Where no current passes C, R is infinite."
    formula = r"Z(\omega) = R_s + \frac{R}{1 + i \omega R C}"

    def figure(self, fit: Randles) -> tuple[float, NDArray[np.float64]]:
        """Return C."""
        C = 1 / fit.elastance
        return C, np.array([0.0, -(C**2), 0.0])


@register("impedance.volumetric_capacitance")
class VolumetricCapacitance(Capacitance):
    """Volumetric capacitance of the channel, C*."""

    unit = "F/m^3"
    description = "volumetric capacitance C* = C / (W L d), of a Randles circuit"
    definition = f"{Capacitance.definition} It is divided by W L d of the sample."
    formula = r"C^* = \frac{C}{W L d}, \quad Z(\omega) = R_s + \frac{R}{1 + i \omega R C}"
    reference = _RIVNAY
    sample_keys: ClassVar[tuple[str, ...]] = GEOMETRY_KEYS
    statuses: ClassVar[Mapping[str, str]] = {**_WORDS, **no_geometry(PER_VOLUME)}

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, its status, and its standard errors due to noise and due to the geometry."""
        return super().variables | {"geometry_stderr": Variable(self.unit, error_of(PER_VOLUME))}

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Fit many spectra of one device, and divide by its volume.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps,).
        """
        found = super().extract_batch(batch, params)
        known = np.isfinite(found["value"])
        per_volume, share = factor_of(batch.sample, PER_VOLUME)
        found["value"], found["stderr"] = found["value"] * per_volume, found["stderr"] * per_volume
        found["geometry_stderr"] = found["value"] * share
        if math.isnan(per_volume):
            words = list(self.variables["status"].statuses)
            found["status"][known] = words.index("no_geometry")
        return found


@register("impedance.series_resistance")
class SeriesResistance(_ImpedanceFigure):
    """Resistance of the electrolyte and the leads, from a fitted Randles circuit."""

    unit = "Ω"
    description = "series resistance of a Randles circuit"
    definition = f"Rs of the circuit. {_FIT}"
    formula = r"Z(\omega) = R_s + \frac{R}{1 + i \omega R C}"

    def figure(self, fit: Randles) -> tuple[float, NDArray[np.float64]]:
        """Return Rs; a value of 0 counts as unknown."""
        return fit.Rs or math.nan, np.array([1.0, 0.0, 0.0])


@register("impedance.parallel_resistance")
class ParallelResistance(_ImpedanceFigure):
    """Resistance through which charge passes the capacitor, from a fitted Randles circuit."""

    unit = "Ω"
    description = "charge-transfer resistance of a Randles circuit"
    definition = f"R of the circuit; unknown where the capacitor blocks. {_FIT}"
    formula = r"Z(\omega) = R_s + \frac{R}{1 + i \omega R C}"

    def figure(self, fit: Randles) -> tuple[float, NDArray[np.float64]]:
        """Return R = RC / C."""
        if not fit.rate > 0:
            return math.nan, np.zeros(3)
        R = fit.elastance / fit.rate
        return R, np.array([0.0, 1 / fit.rate, -R / fit.rate])


@register("impedance.cutoff_frequency")
class CutoffFrequency(_ImpedanceFigure):
    """Frequency up to which the channel follows its gate."""

    unit = "Hz"
    description = "-3 dB frequency at which Rs charges C"
    definition = (
        "Frequency at which the voltage of C, charged through Rs, has fallen to 1/sqrt(2). " + _FIT
    )
    formula = r"f_c = \frac{1}{2 \pi R_s C}"
    reference = _RIVNAY

    def figure(self, fit: Randles) -> tuple[float, NDArray[np.float64]]:
        """Return 1 / (2 pi Rs C)."""
        if not fit.Rs > 0:
            return math.nan, np.zeros(3)
        f = fit.elastance / (2 * math.pi * fit.Rs)
        return f, np.array([-f / fit.Rs, f / fit.elastance, 0.0])
