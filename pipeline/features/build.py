"""From the entry of a configuration to a feature."""

from __future__ import annotations

import re

from oectflow.errors import ConfigError, did_you_mean
from oectflow.extractors.base import get_extractor
from oectflow.measurement import kinds
from oectflow.pipeline.features.config import FeatureSpec
from oectflow.pipeline.features.expressions import Expression
from oectflow.pipeline.features.feature import Feature
from oectflow.pipeline.features.raw_function import RawFunction

#: Columns that every result has, so no feature can be called so.
RESERVED = frozenset(
    {
        *("experiment_id", "chip_id", "device_id", "step_index", "problems"),
        "timing_source",
        *kinds(),
        *(kind.column(value) for kind in kinds().values() for value in kind.values),
    }
)
_NAME = re.compile(r"[^\W\d](?:[\w -]*\w)?")
_MAX_NAME = 128


def build_feature(spec: FeatureSpec) -> Feature:
    """Return the feature that a configuration entry means, without looking at other features.

    Raises
    ------
    ConfigError
        Its name, extractor, parameters, expression or input is wrong.
    """
    if not _NAME.fullmatch(spec.name) or len(spec.name) > _MAX_NAME:
        raise ConfigError(
            "a name begins with a letter and has letters, digits, _, - and blanks, "
            f"at most {_MAX_NAME}"
        )
    if spec.name in RESERVED:
        raise ConfigError("this name is taken by a column that every result has")
    if spec.extractor is not None:
        return _build_extracted(spec, spec.extractor)
    if spec.func is None:
        raise ConfigError("give 'extractor' or 'func'")
    raw = [name for name in spec.inputs if name in kinds()]
    if raw:
        if len(spec.inputs) == 1 and callable(spec.func):
            shape = None if spec.output_shape is None else tuple(spec.output_shape)
            return Feature.from_extractor(spec, RawFunction(spec.func, raw[0], shape, spec.params))
        raise ConfigError(
            f"an expression works on features, not on raw {raw[0]!r} data; give a Python function "
            "of the list of its steps, or derive a class from BaseExtractor, decorate it with "
            "@register('my.name') and use extractor: my.name"
        )
    params = spec.params or {}
    if isinstance(spec.func, str):
        expression = Expression.parse(spec.func, spec.inputs, params)
        return Feature.from_function(spec, expression, expression.inputs)
    if not spec.inputs:
        raise ConfigError("input is missing: name the features that the function takes")
    return Feature.from_function(spec, spec.func, spec.inputs)


def _build_extracted(spec: FeatureSpec, name: str) -> Feature:
    given = spec.inputs[0] if len(spec.inputs) == 1 and spec.inputs[0] in kinds() else ""
    extractor = get_extractor(name, spec.params, given)
    if not extractor.source and len(spec.inputs) == 1:
        raise ConfigError(
            f"extractor {name!r}: input {spec.inputs[0]!r} is no kind of measurement"
            f"{did_you_mean(spec.inputs[0], kinds())}"
        )
    if not extractor.source:
        raise ConfigError(
            f"extractor {name!r} does not say what it reads; give input: transfer, or another of "
            f"{', '.join(kinds())}"
        )
    if spec.inputs not in ((), (extractor.source,)):
        raise ConfigError(
            f"extractor {name!r} reads {extractor.source!r}, "
            f"but input is {', '.join(spec.inputs)!r}"
        )
    return Feature.from_extractor(spec, extractor)
