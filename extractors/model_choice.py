"""Which of three models describes a phase best, and its time constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oectflow.extractors.base import COMMON_STATUSES, Columns, Params, Variable, register
from oectflow.extractors.per_phase import PerPhase
from oectflow.extractors.phases import phases_of
from oectflow.extractors.relaxation import (
    N_UNKNOWNS,
    OF_ONE,
    OF_THE_RECORD,
    ROUNDING,
    StretchedExponential,
    TwoExponentials,
    information,
)
from oectflow.extractors.relaxation_params import RelaxationParams
from oectflow.extractors.tau import TAU_WORDS, TauOnOff
from oectflow.measurement import Batch

#: The model that describes a phase; codes 0 and 1 as in other columns of words.
MODELS = {
    "one": "one exponential",
    "absent": "there is no such phase",
    "two": "two exponentials",
    "stretched": "a stretched exponential",
    "none": "no model has been fitted to all samples of the phase",
}
_CHOICES = ("one", "two", "stretched")
#: Numbers of the models, with unit and meaning.
_NUMBERS = {
    "slow": ("s", "longer of two time constants"),
    "beta": ("", "exponent of a stretched exponential"),
    "amplitude": ("A", "amplitude; of two exponentials that of the faster one"),
    "slow_amplitude": ("A", "amplitude of the slower of two exponentials"),
    "offset": ("A", "Id as t goes to infinity; of one exponential at t = 0 (on)"),
    "stderr": ("s", "standard error of the value"),
    "slow_stderr": ("s", "standard error of the longer of two time constants"),
    "beta_stderr": ("", "standard error of the exponent"),
}


class ChoiceParams(RelaxationParams):
    """Parameters of :class:`Relaxation`; times in s."""

    #: The model; "auto" takes the one with the least AICc among those whose unknowns are known.
    model: Literal["auto", "one", "two", "stretched"] = Field("auto")


_TWO, _STRETCHED = TwoExponentials(), StretchedExponential()


@register("transient.relaxation")
class Relaxation(PerPhase):
    """Time constants of the model that describes a phase best."""

    unit = "s"
    description = "time constant of the best of three models, per gate cycle and phase"
    definition = (
        "One exponential (transient.tau_on_off of the whole phase), two (transient."
        "two_exponentials) and a stretched one (transient.stretched_exponential) are fitted to the "
        "same samples. The model with the least AICc of those whose unknowns are known is taken; "
        "of two exponentials the value is the shorter time constant. Of correlated residuals, as "
        "many samples count as are independent; the correlation is the least of two and stretched "
        "exponentials, since what a model does not describe is correlated, too. Akaike weights are "
        "of all models that were fitted, known or not"
    )
    formula = (
        r"w_i = \frac{e^{-\Delta_i / 2}}{\sum_j e^{-\Delta_j / 2}}, \quad "
        r"\Delta_i = \mathrm{AICc}_i - \min_j \mathrm{AICc}_j"
    )
    reference = (
        "Burnham & Anderson (2002), Model Selection and Multimodel Inference, Springer. "
        "doi:10.1007/b97636"
    )
    statuses: ClassVar[Mapping[str, str]] = {
        **TAU_WORDS,
        **TwoExponentials.statuses,
        **StretchedExponential.statuses,
        "one": "two exponentials were asked for, and one describes the phase as well (AICc)",
        "nan": TAU_WORDS["nan"],
        "flat": TAU_WORDS["flat"],
        "noise": "the model explains the phase no better than chance or a constant",
        "too_few": "fewer samples in the phase than the fit needs",
        "step": "a time constant is shorter than a quarter of a sample, or noise hides the second",
        "edge": "beta is at an end of the range that is searched, or both time constants are one",
        "clipped": "samples of the phase pile up where the instrument could measure no more",
        "overflow": "overflow marks of the instrument in the phase",
        "outlier": "a sample is far beyond all others from the fit",
    }
    version = 6
    Params: ClassVar[type[Params] | None] = ChoiceParams

    @property
    def variables(self) -> dict[str, Variable]:
        """The time constant, its status, the model, its other numbers and the weights."""
        return (
            super().variables
            | {"model": self.per_phase("", "what describes the phase", "int8", MODELS)}
            | {name: self.per_phase(unit, text) for name, (unit, text) in _NUMBERS.items()}
            | {
                f"weight_{word}": self.per_phase("", f"Akaike weight of {MODELS[word]}")
                for word in _CHOICES
            }
            | {
                "window_start": self.per_phase("s", "t = 0, from the step's first sample"),
                "window_duration": self.per_phase("s", "samples of the phase times interval"),
            }
        )

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Fit all phases of many steps, and choose a model, with the same bits as one by one.

        Returns
        -------
        All :attr:`variables`, of shape (n_steps, most cycles, 2).  Shorter steps are padded with
        NaN and ``absent``.
        """
        phases = phases_of(batch, params)
        one = phases.fits
        two, samples, single = _TWO.fit_phases(batch, params, phases)
        stretched, *_ = _STRETCHED.fit_phases(batch, params, phases, single)
        fits = {"one": one, "two": two, "stretched": stretched}
        words = {
            name: np.array([*COMMON_STATUSES, *extractor.statuses])[fits[name]["status"]]
            for name, extractor in (("one", TauOnOff), ("two", _TWO), ("stretched", _STRETCHED))
        }
        # Models are not compared on overflow marks.
        single[np.isnan(two["r_squared"]) & np.isnan(stretched["r_squared"])] = np.nan
        r2 = {"one": single, "two": two["r_squared"], "stretched": stretched["r_squared"]}
        phi = np.fmin(two["correlation"], stretched["correlation"])
        scores = _scores(r2, samples, phi)
        chosen = self._choose(params["model"], fits, scores)
        nothing = np.isin(words["one"], ("absent", *OF_THE_RECORD)) | (chosen < 0)
        own = [*COMMON_STATUSES, *self.statuses]
        columns: Columns = {name: np.full(chosen.shape, np.nan) for name in ("value", *_NUMBERS)}
        columns["model"] = np.full(chosen.shape, list(MODELS).index("none"), np.int8)
        # If no model was chosen, the fit of all samples, or the requested model, gives the reason.
        # As objects, because an array of text would cut longer words off.
        status = words["two" if params["model"] == "auto" else params["model"]].astype(object)
        for number, name in enumerate(_CHOICES):
            here = (chosen == number) & ~nothing
            status[here] = words[name][here]
            columns["model"][here] = list(MODELS).index(name)
            for column in ("value", *_NUMBERS):
                if column in fits[name]:
                    columns[column][here] = fits[name][column][here]
        columns["model"][words["one"] == "absent"] = list(MODELS).index("absent")
        with np.errstate(all="ignore"):
            weights = np.exp(-0.5 * (scores - np.min(scores, axis=0)))
            weights /= np.sum(weights, axis=0)
        return columns | {
            "status": np.array([own.index(word) for word in status.flat], np.int8).reshape(
                chosen.shape
            ),
            **{f"weight_{name}": weights[i] for i, name in enumerate(_CHOICES)},
            "window_start": one["window_start"].copy(),
            "window_duration": one["window_duration"].astype(np.float64),
        }

    @staticmethod
    def _choose(
        model: str, fits: Mapping[str, Mapping[str, NDArray[Any]]], scores: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Return the index of the chosen model, -1 if there is none."""
        if model != "auto":
            number = _CHOICES.index(model)
            return np.where(np.isnan(scores[number]), -1, number)
        known = np.stack([np.isfinite(fits[name]["value"]) for name in _CHOICES])
        usable = np.isfinite(scores) & (known | ~known.any(axis=0))
        best = np.argmin(np.where(usable, scores, np.inf), axis=0)
        return np.where(usable.any(axis=0), best, -1)


def _scores(
    r2: Mapping[str, NDArray[np.float64]], samples: NDArray[np.int64], phi: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return AICc of the models, without their common terms; NaN if there is no fit.

    Parameters
    ----------
    r2
        R2 of each model, on all samples of the phase.
    samples, phi
        Number of samples, and correlation of their residuals.

    Returns
    -------
    The models along a first axis.
    """
    unknowns = (OF_ONE, N_UNKNOWNS[_TWO.model], N_UNKNOWNS[_STRETCHED.model])
    with np.errstate(all="ignore"):
        return np.stack(
            [
                # On samples without noise, all models leave only rounding.
                information(samples, k, np.maximum(1.0 - r2[name], ROUNDING), phi)
                for name, k in zip(_CHOICES, unknowns, strict=True)
            ]
        )
