"""Status words for the codes of an exponential fit."""

from __future__ import annotations

from oectflow.extractors.kernels import exponential

FIT_WORDS: dict[int, str] = {
    exponential.FIT_OK: "ok",
    exponential.FLAT: "flat",
    exponential.STRAIGHT: "straight",
    exponential.STEP: "step",
    exponential.OPPOSITE: "opposite",
    exponential.NOISE: "noise",
    exponential.NOT_FINITE: "nan",
    exponential.TOO_FEW: "too_few",
}
