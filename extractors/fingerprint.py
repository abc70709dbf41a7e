"""Fingerprints that change when the numbers of a feature may change.

A result is reused if the fingerprint of its definition is the same.  The fingerprint covers the
parameters and the code that computes the feature:

* of a built-in extractor, its declared ``version``, and the parameters that differ from their
  defaults.  A new release thus keeps all results whose numbers it does not change.
  ``tests/extractors/golden.json`` holds the numbers of every version, and a test fails if they
  differ and the version does not;
* of any other extractor, everything that its class depends on, see
  :mod:`oectflow.extractors.pinning`.  What cannot be pinned is computed again in every run.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from oectflow.extractors.base import BaseExtractor
from oectflow.extractors.pinning import class_fingerprint, is_built_in


def definition_fingerprint(extractor: BaseExtractor) -> str:
    """Return the fingerprint of an extractor with its parameters.

    Parameters
    ----------
    extractor
        An extractor, parameters checked.

    Returns
    -------
    32 hexadecimal digits.  The order of the parameters does not matter; 1 and 1.0 differ unless
    the extractor declares the type, and so do 0.0 and -0.0.  If the code of an extractor that is
    not built in cannot be pinned, every call returns new digits.
    """
    return _fingerprint(extractor, code_fingerprint(type(extractor)) or uuid.uuid4().hex)


def cost_fingerprint(extractor: BaseExtractor, code: str | None) -> str:
    """Return the key under which the time of an extractor is recorded.

    Parameters
    ----------
    extractor
        An extractor, parameters checked.
    code
        Its :func:`code_fingerprint`.

    Returns
    -------
    :func:`definition_fingerprint`.  If the code cannot be pinned, a key that does not change with
    the code: the last cost is then a better guess than none.
    """
    return _fingerprint(extractor, code or "not pinned")


def _fingerprint(extractor: BaseExtractor, code: str) -> str:
    params = _canonical(extractor.params)
    if is_built_in(type(extractor)) and extractor.Params is not None:
        # A new option in a later version does not change the numbers of users who leave it out.
        fields = extractor.Params.model_fields
        defaults = {name: _canonical(field.get_default()) for name, field in fields.items()}
        params = {name: value for name, value in params.items() if value != defaults[name]}
    parts = [extractor.name, code, params]
    if extractor.source != type(extractor).source:
        # The same class may be used for several kinds of measurement.
        parts.append(extractor.source)
    return _digest(json.dumps(parts, sort_keys=True))


def code_fingerprint(extractor_class: type[BaseExtractor]) -> str | None:
    """Return the fingerprint of the code of an extractor, and of its ``version``.

    Parameters
    ----------
    extractor_class
        A class built in, installed, or defined in a script or notebook.

    Returns
    -------
    32 hexadecimal digits; None if the code cannot be pinned.
    """
    if not is_built_in(extractor_class):
        return class_fingerprint(extractor_class)
    return _digest(f"{extractor_class.name} {extractor_class.version}")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _canonical(value: Any) -> Any:
    """Return a parameter in a form that JSON writes in only one way."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _canonical(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(entry) for entry in value]
    if isinstance(value, float):
        return {"float": value.hex()}
    if value is None or isinstance(value, bool | int | str):
        return value
    return {f"{type(value).__module__}.{type(value).__qualname__}": repr(value)}
