"""Models of a phase beyond one exponential: two exponentials, and a stretched one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors import relaxation_tables
from oectflow.extractors.base import COMMON_STATUSES, Columns, Params, Variable, register
from oectflow.extractors.kernels import downhill, mixtures, pairs, stretched_fits
from oectflow.extractors.per_phase import PerPhase
from oectflow.extractors.phases import BatchPhases, phases_of
from oectflow.extractors.relaxation_params import StretchedParams, TwoParams, is_restricted
from oectflow.extractors.restricted import AT_BOUND
from oectflow.extractors.restricted_phases import NO_WEIGHTS, Fits, fit_step, no_fits
from oectflow.extractors.tau import TAU_WORDS
from oectflow.measurement import Batch

#: Faults of the record itself: the same for every model of a phase.
OF_THE_RECORD = ("clock", "no_response", "nan", "cut", "no_window", "no_period")
#: An unknown is not known if its standard error is a larger share of it.
UNKNOWN = 0.5
#: Number of unknowns with the variance: of one exponential, and of the other models.
OF_ONE = 4
N_UNKNOWNS = {downhill.DOUBLE: 6, downhill.STRETCHED: 5}
#: Number of samples of the shortest window that is fitted.
_SHORTEST_WINDOW = 6
#: In samples; a shorter time constant is due to a single sample.
SHORTEST = 0.25
#: In lengths of the phase; a longer time constant is a drift.
LONGEST = 50.0
_TAU_WORDS = [*COMMON_STATUSES, *TAU_WORDS]
_NO_PHASE = [_TAU_WORDS.index(word) for word in ("absent", *OF_THE_RECORD)]
_SHARED_WORDS = {
    "unknown": "the standard error of an unknown is more than half of it",
    "step": "a time constant is shorter than a quarter of a sample",
    "drift": "a time constant is longer than 50 times the phase: a drift",
    "noise": "the model explains the phase no better than a constant",
    "flat": "the current is constant in the phase",
    "too_few": "fewer samples in the phase than the fit needs",
    "nan": "a sample in the phase is not a number",
    "overflow": "overflow marks of the instrument in the phase",
    "clipped": "samples of the phase pile up where the instrument could measure no more",
    "outlier": "a sample is far beyond all others from the fit",
    **{word: TAU_WORDS[word] for word in OF_THE_RECORD if word != "nan"},
}
_NO_WEIGHTS = {
    "no_weights": "no phase of 16 samples or more on one side, on or off, whose plateau has noise"
}
_WORD_OF_CODE = {
    mixtures.FIT_OK: "ok",
    mixtures.TOO_FEW: "too_few",
    mixtures.NOT_FINITE: "nan",
    mixtures.FLAT: "flat",
    mixtures.NO_OPTIMUM: "unknown",
    mixtures.MARKED: "overflow",
    mixtures.CLIPPED: "clipped",
    mixtures.OUTLIER: "outlier",
    NO_WEIGHTS: "no_weights",
}


#: Share of the scatter that remains after an exact fit.
ROUNDING = 1e-15


class _Relaxation(PerPhase):
    """A model fitted to every whole phase of the gate."""

    unit = "s"
    reference = "Golub & Pereyra (1973), SIAM J. Numer. Anal. 10, 413. doi:10.1137/0710036"
    Params: ClassVar[type[Params] | None]
    model: ClassVar[int]
    #: The unknowns, under the names of :attr:`Params`.
    names: ClassVar[tuple[str, str]]
    #: Column of the longest time constant.
    longest: ClassVar[int]
    #: Companions: column of the fit, unit, and description.
    companions: ClassVar[Mapping[str, tuple[int, str, str]]]

    @property
    def variables(self) -> dict[str, Variable]:
        """The time constant, its status, and the other unknowns; all per cycle and phase."""
        columns = {**self.companions, **_OFFSET}
        return super().variables | {
            **{name: self.per_phase(unit, text) for name, (_, unit, text) in columns.items()},
            "r_squared": self.per_phase("", "R2 on the raw samples"),
            "correlation": self.per_phase("", "correlation of neighbouring residuals"),
            "aicc_gain": self.per_phase(
                "", "AICc of one exponential on the same samples, less that of the model"
            ),
            "window_start": self.per_phase("s", "t = 0, from the step's first sample"),
            "window_duration": self.per_phase("s", "samples of the phase times interval"),
        }

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Fit all phases of many steps, with the same bits as one by one.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps, most cycles, 2).  Shorter steps are padded with
        NaN and ``absent``.
        """
        return self.fit_phases(batch, params, phases_of(batch, params))[0]

    def fit_phases(
        self,
        batch: Batch,
        params: Mapping[str, Any],
        phases: BatchPhases,
        known: NDArray[np.float64] | None = None,
    ) -> tuple[Columns, NDArray[np.int64], NDArray[np.float64]]:
        """Fit all phases of many steps, given the fits of one exponential.

        Parameters
        ----------
        batch, params
            As in :meth:`extract_batch`.
        phases
            From :func:`.phases.phases_of`.
        known
            R2 of one exponential on the samples of each phase, if another model returned it.

        Returns
        -------
        All :attr:`variables`; the samples of each phase, and R2 of one exponential on them.
        """
        one = phases.fits
        shape = one["status"].shape
        rows = np.full((*shape, mixtures.N_COLUMNS), np.nan)
        codes = np.full(shape, mixtures.TOO_FEW, np.int8)
        samples = np.zeros(shape, np.int64)
        single = np.full(shape, np.nan) if known is None else known
        seconds = np.full(len(batch), np.nan)
        fits = no_fits(shape) if is_restricted(params) else None
        for step, part, t, seconds[step], spans in phases.steps:
            if fits is not None:
                # A fault of the record in one phase would affect the numbers of all.
                usable = ~np.isin(one["status"][step], _NO_PHASE)[..., None] * (seconds[step] > 0)
                current = np.array(batch.arrays["drain_current"][part], np.float64)
                of_step = fit_step(
                    current, t, spans * usable, seconds[step], self.model, params
                )  # fmt: skip
                for name, of_batch in fits._asdict().items():
                    of_batch[step] = getattr(of_step, name)
                samples[step] = spans[..., 1] - spans[..., 0]
                continue
            first, last = np.ascontiguousarray(spans.reshape(-1, 2).T)
            n = last - first
            current = np.array(batch.arrays["drain_current"][part], np.float64)
            found = np.full((first.size, mixtures.N_COLUMNS), np.nan)
            code = codes[step].ravel()
            fit_windows(self.model, current, t, first, n, found, code)
            if known is None:
                of_one = np.full(first.size, np.nan)
                mixtures.fit_one(current, t, first, n, of_one)
                single[step] = of_one.reshape(shape[1:])
            rows[step] = found.reshape(rows[step].shape)
            codes[step] = code.reshape(codes[step].shape)
            samples[step] = n.reshape(shape[1:])
        if fits is not None:
            rows, codes = fits.rows, fits.codes
        columns = self._columns(one, rows, codes, samples, seconds, single, fits, params)
        return columns, samples, single

    def _columns(
        self,
        one: Mapping[str, NDArray[Any]],
        rows: NDArray[np.float64],
        codes: NDArray[np.int8],
        samples: NDArray[np.int64],
        seconds: NDArray[np.float64],
        single: NDArray[np.float64],
        fits: Fits | None,
        params: Mapping[str, Any],
    ) -> Columns:
        """Turn fits into the declared variables; times in s."""
        words = [*COMMON_STATUSES, *self.statuses]
        phi = rows[..., mixtures.PHI]
        left, left_one = 1.0 - rows[..., mixtures.R2], 1.0 - single
        counted, windows = samples, np.ones_like(samples)
        n_unknowns, of_one = N_UNKNOWNS[self.model] * windows, OF_ONE * windows
        if fits is not None:
            left, left_one, counted, windows = fits.left, fits.left_one, fits.samples, fits.windows
            n_unknowns, of_one = fits.unknowns, fits.of_one
        # Of samples without noise, rounding is left of all models.
        left, left_one = np.maximum(left, ROUNDING), np.maximum(left_one, ROUNDING)
        with np.errstate(all="ignore"):
            of_model = information(counted, n_unknowns, left, phi)
            of_constant = information(counted, 1 + windows, np.ones_like(left), phi)
            gain = information(counted, of_one, left_one, phi) - of_model
        status = np.empty(codes.shape, np.int8)
        for code, word in _WORD_OF_CODE.items():
            status[codes == code] = words.index(word)
        fitted = np.isin(codes, (mixtures.FIT_OK, mixtures.CLIPPED, mixtures.OUTLIER))
        at_bound = None if fits is None else fits.at_bound
        if fits is not None:
            # A phase that is left out of the fit of the others is not judged by it.
            fitted &= np.isfinite(fits.left)
        for word, is_so in self._faults(rows, samples, gain, at_bound, params).items():
            status[fitted & (status == 0) & is_so] = words.index(word)
        status[fitted & ~(of_model < of_constant)] = words.index("noise")
        for word in ("absent", *OF_THE_RECORD):
            status[one["status"] == _TAU_WORDS.index(word)] = words.index(word)
        there = fitted & (status != words.index("absent")) & (samples > 0)
        # A number that the samples do not determine is dropped: it depends on their last bits.
        known = there & np.isin(
            status, [words.index(word) for word in ("ok", "clipped", "outlier")]
        )
        numbers = np.where(known[..., None], rows, np.nan)
        unknowns = {**_VALUE, **self.companions, **_OFFSET}
        columns: Columns = {
            name: numbers[..., column] * (seconds[:, None, None] if unit == "s" else 1.0)
            for name, (column, unit, _) in unknowns.items()
        }
        return columns | {
            "status": status,
            "r_squared": np.where(there, rows[..., mixtures.R2], np.nan),
            "correlation": np.where(there, rows[..., mixtures.PHI], np.nan),
            "aicc_gain": np.where(there, gain, np.nan),
            "window_start": one["window_start"].copy(),
            "window_duration": one["window_duration"].astype(np.float64),
        }

    def _faults(
        self,
        rows: NDArray[np.float64],
        samples: NDArray[np.int64],
        gain: NDArray[np.float64],
        at_bound: NDArray[np.bool_] | None,
        params: Mapping[str, Any],
    ) -> dict[str, NDArray[np.bool_]]:
        """Return where a fit is no answer, by word; the first word that applies counts."""
        first, second = rows[..., mixtures.FIRST], rows[..., mixtures.SECOND]
        if at_bound is None:
            low, high = mixtures.BETA_MIN * 1.001, mixtures.BETA_MAX * 0.999
            at_bound = (second <= low) | (second >= high)
            if self.model == downhill.DOUBLE:
                at_bound = second <= first * math.exp(downhill.LEAST_APART + AT_BOUND)
        fixed = params.get("fixed", {})
        known = (rows[..., mixtures.SE_FIRST] <= UNKNOWN * first) & (
            rows[..., mixtures.SE_SECOND] <= UNKNOWN * second
        )
        faults = {
            "one": ~(gain > 0.0),
            "edge": at_bound,
            "step": (first < SHORTEST) & (self.names[0] not in fixed),
            "drift": (rows[..., self.longest] > LONGEST * samples)
            & (self.names[self.longest - mixtures.FIRST] not in fixed),
            "unknown": ~known,
        }
        return {word: where for word, where in faults.items() if word in self.statuses}


_VALUE = {"value": (mixtures.FIRST, "s", "")}
_OFFSET = {"offset": (mixtures.OFFSET, "A", "Id as t goes to infinity")}


@register("transient.two_exponentials")
class TwoExponentials(_Relaxation):
    """Two exponentials in every phase of the gate."""

    description = "shorter of two time constants, per gate cycle and phase"
    definition = (
        "Id = C + A1 exp(-t/tau1) + A2 exp(-t/tau2), tau1 < tau2, amplitudes of either sign, least "
        "squares on all raw samples of the phase, t from its first sample; the least sum of "
        "squares of all tau1 and tau2"
    )
    formula = (
        r"I_d(t) = C + A_1 e^{-t / \tau_1} + A_2 e^{-t / \tau_2}, \quad "
        r"\arg \min \sum_k (I_{d,k} - I_d(t_k))^2"
    )
    statuses: ClassVar[Mapping[str, str]] = {
        "one": "one exponential describes the phase as well (AICc)",
        **_SHARED_WORDS,
        "edge": "both time constants are one, or one of them is at a bound that was given",
        **_NO_WEIGHTS,
    }
    version = 7
    Params = TwoParams
    names = TwoParams.unknowns
    model = downhill.DOUBLE
    longest = mixtures.SECOND
    companions: ClassVar[Mapping[str, tuple[int, str, str]]] = {
        "slow": (mixtures.SECOND, "s", "longer time constant"),
        "amplitude": (mixtures.A_1, "A", "amplitude of the faster exponential"),
        "slow_amplitude": (mixtures.A_2, "A", "amplitude of the slower exponential"),
        "stderr": (mixtures.SE_FIRST, "s", "standard error of the shorter time constant"),
        "slow_stderr": (mixtures.SE_SECOND, "s", "standard error of the longer time constant"),
        "amplitude_stderr": (mixtures.SE_A_1, "A", "standard error of the faster amplitude"),
        "slow_amplitude_stderr": (mixtures.SE_A_2, "A", "standard error of the slower amplitude"),
    }


@register("transient.stretched_exponential")
class StretchedExponential(_Relaxation):
    """A stretched exponential in every phase of the gate."""

    description = "time constant of a stretched exponential, per gate cycle and phase"
    definition = (
        "Id = C + A exp(-(t/tau)^beta), beta from 0.2 to 2, least squares on all raw samples of "
        "the phase, t from its first sample; the least sum of squares of all. Standard "
        "errors hold what it does that the gate was switched up to a sample earlier"
    )
    formula = (
        r"I_d(t) = C + A e^{-(t / \tau)^\beta}, \quad "
        r"\arg \min \sum_k (I_{d,k} - I_d(t_k))^2"
    )
    statuses: ClassVar[Mapping[str, str]] = {
        "edge": "beta is at an end of the range that is searched, or an unknown at a bound given",
        **_SHARED_WORDS,
        **_NO_WEIGHTS,
    }
    version = 8
    Params = StretchedParams
    names = StretchedParams.unknowns
    model = downhill.STRETCHED
    longest = mixtures.FIRST
    companions: ClassVar[Mapping[str, tuple[int, str, str]]] = {
        "beta": (mixtures.SECOND, "", "exponent; 1 for one exponential"),
        "amplitude": (mixtures.A_1, "A", "amplitude"),
        "stderr": (mixtures.SE_FIRST, "s", "standard error of the time constant"),
        "beta_stderr": (mixtures.SE_SECOND, "", "standard error of beta"),
        "amplitude_stderr": (mixtures.SE_A_1, "A", "standard error of the amplitude"),
    }


def fit_windows(
    model: int,
    y: NDArray[np.float64],
    t: NDArray[np.float64],
    first: NDArray[np.int64],
    n: NDArray[np.int64],
    rows: NDArray[np.float64],
    codes: NDArray[np.int8],
) -> None:
    """Fit a model, even samples side by side; the rest as for :func:`.mixtures.fit_model`."""
    tabled = (n >= _SHORTEST_WINDOW) & (n <= relaxation_tables.LONGEST) & (t.size == 0)
    for length in np.unique(n[tabled]):
        here = np.flatnonzero(tabled & (n == length))
        found = np.empty((here.size, mixtures.N_COLUMNS))
        ends = np.zeros(here.size, np.int8)
        if model == downhill.DOUBLE:
            tables = relaxation_tables.tables_of(int(length))
            pairs.fit_pairs(y, first[here], *tables, found, ends)
        else:
            of_stretched = relaxation_tables.stretched_tables_of(int(length))
            stretched_fits.fit_stretched(y, first[here], *of_stretched, found, ends)
        rows[here], codes[here] = found, ends
    others = np.flatnonzero(~tabled)
    if others.size:
        found = np.full((others.size, mixtures.N_COLUMNS), np.nan)
        ends = np.zeros(others.size, np.int8)
        mixtures.fit_model(y, t, first[others], n[others], model, found, ends)
        rows[others], codes[others] = found, ends


def information(
    n: NDArray[np.int64],
    k: int | NDArray[np.int64],
    left: NDArray[np.float64],
    phi: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return AICc of a model with ``k`` unknowns, without the terms common to all models.

    Parameters
    ----------
    n
        Number of samples.  If residuals are correlated, the number of independent ones.
    k
        Number of unknowns, the variance included.
    left
        Sum of squares of the residuals, in one unit for all models.
    phi
        Correlation of neighbouring residuals.

    References
    ----------
    Hurvich & Tsai (1989), Biometrika 76, 297. doi:10.1093/biomet/76.2.297
    """
    counted = np.maximum(n * (1.0 - phi) / (1.0 + phi), k + 2.0)
    information = counted * np.log(left) + 2.0 * k + 2.0 * k * (k + 1) / (counted - k - 1.0)
    return np.asarray(information)
