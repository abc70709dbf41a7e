"""Figures of output curves: conductances, on-resistance, saturation and Early voltage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from pydantic import Field

from oectflow.extractors.base import (
    OK,
    BaseExtractor,
    Columns,
    Params,
    Variable,
    register,
)
from oectflow.extractors.kernels import output_curves as kernels
from oectflow.measurement import Batch

_SZE = "Sze & Ng (2007), Physics of Semiconductor Devices, 3rd ed., Wiley, ch. 6"
_BERNARDS = "Bernards & Malliaras (2007), Adv. Funct. Mater. 17, 3538. doi:10.1002/adfm.200601239"
_LOW = (
    "A parabola is fitted by least squares to the points of |Vd| up to 'linear' of the largest "
    "one; its slope at Vd = 0 counts, so that the curvature of the linear regime does not bend it."
)
_HIGH = (
    "A line is fitted by least squares to the points of |Vd| within 'saturated' of the largest one."
)
# With white noise alone, one slope in a thousand counts as different from 0.
_FALSE_ALARM = 1e-3


class OutputParams(Params):
    """Windows in which output curves are fitted."""

    #: Share of the largest |Vd| up to which the beginning is fitted.
    linear: float = Field(0.3, gt=0, le=1)
    #: Share of the largest |Vd| over which the end is fitted.
    saturated: float = Field(0.25, gt=0, lt=1)


class SaturationParams(OutputParams):
    """Windows, and the criterion of saturation."""

    #: A curve saturates if its slope at the end is less than this share of its slope at Vd = 0.
    flat_below: float = Field(0.1, gt=0, lt=1)


class Fits(NamedTuple):
    """Fits to the curves of a batch.

    Attributes
    ----------
    low, high
        Fits to the beginning and to the end: value and slope at Vd = 0, their variances and
        covariance, and the degrees of freedom.  Shape (6, n_steps), NaN if there is no fit.
    open_end
        Whether a curve does not saturate.  Shape (n_steps,).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    open_end: NDArray[np.bool_]


class _OutputFigure(BaseExtractor):
    """A number of an output curve, derived from the fits to its beginning and its end."""

    source = "output"
    Params: ClassVar[type[Params] | None] = OutputParams
    reference = _SZE
    statuses: ClassVar[Mapping[str, str]] = {
        "no_data": "no point of the curve has a finite Vd other than 0 and a finite Id",
        "too_few": f"fewer than {kernels.FEWEST} points, or fewer than 3 voltages, in a window",
        "noise": "the slope is not different from 0 (t test, 0.1 % false alarms)",
    }

    @property
    def arrays(self) -> tuple[str, ...]:
        """Drain voltage and current."""
        return ("Vd", "Id")

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, its status and its standard error."""
        return super().variables | {
            "stderr": Variable(self.unit, f"standard error of {self.name}, from the residuals")
        }

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute the number of many curves, with the same bits as one by one.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps,).
        """
        found = np.empty((len(batch), kernels.END))
        codes = np.empty(len(batch), np.int8)
        kernels.slopes_of_curves(
            batch.arrays["Vd"],
            batch.arrays["Id"],
            batch.offsets,
            params["linear"],
            params["saturated"],
            found,
            codes,
        )
        words = list(self.variables["status"].statuses)
        status = np.full(len(batch), OK, np.int8)
        status[codes == kernels.NO_DATA] = words.index("no_data")
        status[codes == kernels.TOO_FEW] = words.index("too_few")
        with np.errstate(divide="ignore", invalid="ignore"):
            low = found[:, kernels.LOW : kernels.HIGH].T
            high = found[:, kernels.HIGH :].T
            ratio = high[kernels.SLOPE] / low[kernels.SLOPE]
            fits = Fits(low, high, ratio >= params.get("flat_below", np.inf))
            value, variance, word = self.figure(fits)
            stderr = np.sqrt(variance)
        for text, where in word.items():
            status[where & (status == OK)] = words.index(text)
        known = status == OK
        return {
            "value": np.where(known, value, np.nan),
            "status": status,
            "stderr": np.where(known, stderr, np.nan),
        }

    def figure(
        self, fits: Fits
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, NDArray[np.bool_]]]:
        """Return the number, its variance, and for each word the curves that get it instead."""
        raise NotImplementedError


def _unsure(fit: NDArray[np.float64]) -> NDArray[np.bool_]:
    limit = scipy.special.stdtrit(fit[kernels.FREEDOM], 1 - _FALSE_ALARM / 2)
    return np.asarray(np.abs(fit[kernels.SLOPE]) <= limit * np.sqrt(fit[kernels.VAR_SLOPE]))


@register("output.channel_conductance")
class ChannelConductance(_OutputFigure):
    """Slope of an output curve at Vd = 0."""

    unit = "S"
    description = "channel conductance, dId/dVd at Vd = 0"
    definition = _LOW
    formula = r"g_{d,0} = \left. \frac{\partial I_d}{\partial V_d} \right|_{V_d = 0}"

    def figure(self, fits: Fits) -> Any:
        """Return the slope at Vd = 0."""
        return fits.low[kernels.SLOPE], fits.low[kernels.VAR_SLOPE], {"noise": _unsure(fits.low)}


@register("output.on_resistance")
class OnResistance(_OutputFigure):
    """Resistance of the channel and its contacts at Vd = 0."""

    unit = "Ω"
    description = "on-resistance, dVd/dId at Vd = 0"
    definition = f"{_LOW} It holds the contacts, too."
    formula = r"R_{on} = \left( \left. \partial I_d / \partial V_d \right|_{V_d = 0} \right)^{-1}"

    def figure(self, fits: Fits) -> Any:
        """Return the inverse slope at Vd = 0."""
        slope = fits.low[kernels.SLOPE]
        return 1 / slope, fits.low[kernels.VAR_SLOPE] / slope**4, {"noise": _unsure(fits.low)}


@register("output.output_conductance")
class OutputConductance(_OutputFigure):
    """Slope of an output curve at its end."""

    unit = "S"
    description = "output conductance, dId/dVd at the largest |Vd|"
    definition = (
        f"{_HIGH} A slope of 0 within its standard error is an answer, too: the curve is flat."
    )
    formula = r"g_d = \left. \frac{\partial I_d}{\partial V_d} \right|_{|V_d| \to \max}"
    statuses: ClassVar[Mapping[str, str]] = {
        word: text for word, text in _OutputFigure.statuses.items() if word != "noise"
    }

    def figure(self, fits: Fits) -> Any:
        """Return the slope at the end."""
        return fits.high[kernels.SLOPE], fits.high[kernels.VAR_SLOPE], {}


class _Saturation(_OutputFigure):
    """A number that only a saturating curve has."""

    Params = SaturationParams
    statuses: ClassVar[Mapping[str, str]] = {
        **_OutputFigure.statuses,
        "not_saturated": "the slope at the end is 'flat_below' of that at Vd = 0 or more",
    }


@register("output.saturation_voltage")
class SaturationVoltage(_Saturation):
    """Drain voltage at which the tangents to both ends of an output curve cross."""

    unit = "V"
    description = "saturation voltage, where the tangents to beginning and end cross"
    definition = (
        f"Vd at which the tangent at Vd = 0 meets the line through the end. {_LOW} {_HIGH} For the "
        "square law, Id = G (V - Vd / 2) Vd up to Vd = V, the tangents cross at V / 2"
    )
    formula = (
        r"V_{d,sat} = \frac{I_{end}(0) - I_0(0)}{g_{d,0} - g_d}, \quad "
        r"I_0, I_{end} \text{: the fits, extrapolated to } V_d = 0"
    )
    reference = _BERNARDS

    def figure(self, fits: Fits) -> Any:
        """Return the voltage at which the tangents cross."""
        difference = fits.low[kernels.SLOPE] - fits.high[kernels.SLOPE]
        at = (fits.high[kernels.VALUE] - fits.low[kernels.VALUE]) / difference
        variance = sum(
            fit[kernels.VAR_VALUE]
            + at**2 * fit[kernels.VAR_SLOPE]
            + 2 * at * fit[kernels.COVARIANCE]
            for fit in (fits.low, fits.high)
        )
        words = {"noise": _unsure(fits.low), "not_saturated": fits.open_end}
        return at, variance / difference**2, words


@register("output.Early_voltage")
class EarlyVoltage(_Saturation):
    """Distance from Vd = 0 at which the line through the end of an output curve meets Id = 0."""

    unit = "V"
    description = "Early voltage, from the slope in saturation"
    definition = f"|Vd| at which the extrapolated line meets Id = 0. {_HIGH}"
    formula = r"V_A = \left| \frac{I_{end}(0)}{g_d} \right|"
    statuses: ClassVar[Mapping[str, str]] = {
        **_Saturation.statuses,
        "falling": "|Id| falls with |Vd| in saturation: the line meets Id = 0 on the wrong side",
    }

    def figure(self, fits: Fits) -> Any:
        """Return the voltage at which the line meets zero."""
        slope = fits.high[kernels.SLOPE]
        at = -fits.high[kernels.VALUE] / slope
        variance = (
            fits.high[kernels.VAR_VALUE]
            + at**2 * fits.high[kernels.VAR_SLOPE]
            + 2 * at * fits.high[kernels.COVARIANCE]
        ) / slope**2
        words = {
            "noise": _unsure(fits.low) | _unsure(fits.high),
            "not_saturated": fits.open_end,
            "falling": slope / fits.low[kernels.SLOPE] < 0,
        }
        return np.abs(at), variance, words
