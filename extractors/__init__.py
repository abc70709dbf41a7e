"""From one measured step to one feature: one file per kind of data."""

if __name__ != "oectflow.extractors":
    raise ImportError("import oectflow.extractors, not extractors")

from oectflow.extractors import (  # noqa: F401 - registers what is built in
    charge,
    crossings,
    decay,
    geometry,
    impedance,
    merit,
    model_choice,
    output,
    relaxation,
    tau,
    thresholds,
    transfer,
    transient,
    wavelet,
)
from oectflow.extractors.base import (
    BaseExtractor,
    Params,
    Variable,
    extractor_names,
    get_extractor,
    register,
)
from oectflow.measurement import Batch

__all__ = [
    "BaseExtractor",
    "Batch",
    "Params",
    "Variable",
    "extractor_names",
    "get_extractor",
    "register",
]
