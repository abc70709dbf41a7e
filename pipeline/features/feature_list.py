"""Which features are computed, from which inputs, in which order."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Self

import yaml
from numpy.typing import NDArray

from oectflow.errors import ConfigError, did_you_mean
from oectflow.extractors.base import Variable
from oectflow.measurement import kinds
from oectflow.pipeline.features.build import build_feature
from oectflow.pipeline.features.config import FeatureConfig, FeatureSpec, load_config, parse_config
from oectflow.pipeline.features.derive import Derived, Failure, compute_derived
from oectflow.pipeline.features.expressions import Expression
from oectflow.pipeline.features.feature import Column, Feature, column_name
from oectflow.pipeline.features.postprocessing import transform


class _NotYet(ConfigError):
    """An input is not there, but may come."""


class FeatureList:
    """An ordered collection of features that is consistent whenever it is used.

    Parameters
    ----------
    name
        Stands in the results and in messages.
    description
        One line for people.

    Examples
    --------
    >>> features = FeatureList("mine")
    >>> features = features.add("gm", extractor="transfer.gm_max", params={"direction": "forward"})
    >>> features = features.add("gm_norm", func="gm / gm.mean()", unit="")
    >>> [feature.name for feature in features.derived]
    ['gm_norm']
    """

    def __init__(self, name: str = "inline_config", description: str = "") -> None:
        self.name = name
        self.description = description
        self._features: dict[str, Feature] = {}
        self._derived: tuple[str, ...] = ()
        # Added before what they need.
        self._waiting: list[FeatureSpec] = []
        self._fingerprints: dict[str, str] = {}

    @classmethod
    def load(cls, source: str | os.PathLike[str] | Mapping[str, Any] | FeatureList) -> FeatureList:
        """Build a feature set from a configuration.

        Parameters
        ----------
        source
            Name of a bundled configuration, path of a YAML or JSON file, dict, or a feature set,
            which is returned as it is.

        Raises
        ------
        ConfigError
            The message names configuration, feature and remedy.
        """
        if isinstance(source, FeatureList):
            return source
        config = load_config(Path(source) if isinstance(source, os.PathLike) else source)
        features = cls(config.name, config.description or "")
        features._extend(config.features)
        for spec in features._postprocessing(config):
            features._extend([spec])
        return features

    def add(
        self,
        name: str,
        *,
        extractor: str | None = None,
        func: str | Callable[..., Any] | None = None,
        input: str | Iterable[str] | None = None,  # noqa: A002 - the key that configurations have
        params: Mapping[str, Any] | None = None,
        output_shape: Iterable[str | int] | None = None,
        unit: str | None = None,
        description: str | None = None,
    ) -> Self:
        """Add a feature.

        Those from which it is computed may be added later; who uses the set before gets an error.

        Parameters
        ----------
        name
            Name of the column.
        extractor
            Name of a registered extractor.
        func
            An expression over features, see :class:`Expression`, or a Python function, which gets
            one array of shape (n_steps, ...) per input and is called once per experiment.  Of a
            kind of measurement it gets the list of all steps.
        input
            Names of features, in the order of the function's arguments, or a kind of measurement.
        params
            Parameters of the extractor, or keyword arguments of the function.
        output_shape
            For a Python function: ``("n_steps", 100)``, if there is more than one value per step.
        unit, description
            By default those of the extractor; of a derived feature, the unit that follows from its
            inputs (see :mod:`oectflow.pipeline.features.units`), and the expression.

        Returns
        -------
        This feature set, so that calls can be chained.

        Raises
        ------
        ConfigError
            The feature does not fit; the set stays as it was.
        """
        keys = {
            "name": name,
            "extractor": extractor,
            "func": func,
            "input": input if input is None or isinstance(input, str) else list(input),
            "params": None if params is None else dict(params),
            "output_shape": None if output_shape is None else list(output_shape),
            "unit": unit,
            "description": description,
        }
        given = {key: value for key, value in keys.items() if value is not None}
        (spec,) = parse_config({"name": self.name, "features": [given]}, self.name).features
        self._check_waiting(spec)
        try:
            self._extend([spec])
        except ConfigError as error:
            empty = not (spec.extractor or spec.func) and spec.inputs
            if not (isinstance(error, _NotYet) or (empty and self._lacks(spec))):
                raise
            self._waiting.append(spec)
            return self
        self._take_waiting()
        return self

    def _lacks(self, spec: FeatureSpec) -> bool:
        known = {*_columns(self._features), *kinds()}
        return any(name not in known for name in spec.inputs)

    def _check_waiting(self, spec: FeatureSpec) -> None:
        """Make sure that a feature has a name of its own and does not close a cycle."""
        waiting = {one.name: [*one.inputs] for one in self._waiting}
        if spec.name in waiting:
            self._fail(spec.name, "there are two features of this name")
        needs = waiting | {spec.name: [*spec.inputs]}
        while ready := [name for name, up in needs.items() if not set(up) & needs.keys()]:
            needs = {name: up for name, up in needs.items() if name not in ready}
        if needs:
            self._fail(spec.name, f"a cycle, features need each other: {_cycle(needs)}")

    def _take_waiting(self) -> None:
        """Add what has waited for features that are there now."""
        for spec in list(self._waiting):
            try:
                self._extend([spec])
            except _NotYet:
                continue
            self._waiting.remove(spec)
            return self._take_waiting()
        return None

    @property
    def features(self) -> dict[str, Feature]:
        """All features by name, each after those that it was added before.

        Raises
        ------
        ConfigError
            One needs a feature that was not added.
        """
        # Says what is missing.
        self._extend(self._waiting)
        return dict(self._features)

    @property
    def extracted(self) -> list[Feature]:
        """Features computed by an extractor, step by step."""
        return [feature for feature in self.features.values() if feature.extractor]

    @property
    def derived(self) -> list[Feature]:
        """Features computed from others, each after those that it needs."""
        features = self.features
        return [features[name] for name in self._derived]

    @property
    def stepwise(self) -> list[Feature]:
        """Derived features of which each step can be computed apart, to the same bits."""
        columns = _columns(self.features)
        return [
            one
            for one in self.derived
            if isinstance(one.expression, Expression)
            and one.expression.is_stepwise([columns[name].variable for name in one.inputs])
        ]

    @property
    def sources(self) -> tuple[str, ...]:
        """The data that have to be read."""
        needed = {feature.extractor.source for feature in self.extracted if feature.extractor}
        return tuple(source for source in kinds() if source in needed)

    @property
    def variables(self) -> dict[str, Variable]:
        """Every variable of the output: ``tau``, ``tau_status``, and companions as ``tau_r2``."""
        return {
            column_name(feature.name, name): variable
            for feature in self.features.values()
            for name, variable in feature.variables.items()
        }

    def fingerprints(self) -> dict[str, str]:
        """Return a text for each feature that changes when its definition does.

        That of a derived feature contains those of its inputs.  Names of features, units and
        descriptions do not count.
        """
        if self._fingerprints:
            return dict(self._fingerprints)
        found = {feature.name: feature.fingerprint(()) for feature in self.extracted}
        for feature in self.derived:
            found[feature.name] = feature.fingerprint(
                [
                    found[owner] + column.removeprefix(owner)
                    for owner, column in zip(feature.upstream, feature.inputs, strict=True)
                ]
            )
        self._fingerprints = {name: found[name] for name in self._features}
        return dict(self._fingerprints)

    def pinned(self) -> FeatureList:
        """Return a copy for one run, with fingerprints that were taken now.

        A global that a function uses may have changed since those of this set were taken.
        """
        features = copy(self)
        features._fingerprints = {}
        features.fingerprints()
        return features

    def __getstate__(self) -> dict[str, Any]:
        # Taken here: on a worker, the source of a class from a notebook cannot be read.
        self.fingerprints()
        return self.__dict__

    def compute_derived(
        self,
        columns: Mapping[str, NDArray[Any]],
        wanted: Collection[str] | None = None,
        values: Mapping[str, NDArray[Any]] | None = None,
    ) -> tuple[Derived, list[Failure]]:
        """Compute derived features of one experiment.

        Parameters
        ----------
        columns
            Variables by column name, for all steps of the experiment, shape (n_steps, ...).
            Status columns may be missing.
        wanted
            Names of derived features; by default all.  Those left out must be in ``columns`` if
            another one needs them.
        values
            Values that are known already, by feature.

        Returns
        -------
        The features, and why one has no value.  One that failed is NaN with the status ``error`` at
        every step, and so are those that need it.
        """
        features = [one for one in self.derived if wanted is None or one.name in wanted]
        return compute_derived(features, _columns(self._features), columns, values or {})

    def to_config(self) -> dict[str, Any]:
        """Return the dict from which :meth:`load` builds an equal feature set."""
        config: dict[str, Any] = {
            "version": "v2",
            "name": self.name,
            "data_type": self.sources[0] if len(self.sources) == 1 else "both",
            "features": [feature.to_config() for feature in self.features.values()],
        }
        if self.description:
            config["description"] = self.description
        return config

    def to_yaml(self, path: str | os.PathLike[str]) -> None:
        """Write the feature set as a configuration file.

        Raises
        ------
        ConfigError
            A feature is a Python function, which no file can hold.
        """
        for feature in self.features.values():
            if feature.function:
                raise ConfigError(
                    f"config {self.name!r}, feature {feature.name!r}: a Python function cannot be "
                    "written to a file; give func as text, such as 'lambda gm: gm / gm.mean()'"
                )
        text = yaml.safe_dump(self.to_config(), sort_keys=False, allow_unicode=True)
        Path(path).write_text(text, encoding="utf-8")

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {', '.join(self._features) or 'empty'}>"

    def __str__(self) -> str:
        rows = [_HEADER, *(feature.row() for feature in self._features.values())]
        widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADER))]
        lines = ["  ".join(f"{cell:{w}}" for cell, w in zip(r, widths, strict=True)) for r in rows]
        return "\n".join([f"FeatureSet {self.name!r}", *(line.rstrip() for line in lines)])

    def _repr_html_(self) -> str:
        def row(cells: Iterable[str], tag: str) -> str:
            inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
            return f"<tr>{inner}</tr>"

        body = "".join(row(feature.row(), "td") for feature in self._features.values())
        return (
            f"<table><caption>{html.escape(self.name)}</caption>"
            f"<thead>{row(_HEADER, 'th')}</thead><tbody>{body}</tbody></table>"
        )

    def _fail(self, feature: str, error: ConfigError | str) -> NoReturn:
        kind = type(error) if isinstance(error, ConfigError) else ConfigError
        text = f"feature {feature!r}: {error}"
        wrong = kind(f"config {self.name!r}, {text}")
        wrong.mistakes = ((("features", feature), text),)
        raise wrong from None

    def _unknown_input(self, feature: str, column: str, known: Iterable[str]) -> NoReturn:
        hint = did_you_mean(column, set(known) - {feature})
        self._fail(feature, _NotYet(f"unknown input {column!r}{hint}"))

    def _extend(self, specs: Sequence[FeatureSpec]) -> None:
        """Add features, or leave everything as it was."""
        if not specs:
            return
        features = dict(self._features)
        for spec in specs:
            if spec.name in features:
                self._fail(spec.name, "there are two features of this name")
            try:
                features[spec.name] = build_feature(spec)
            except ConfigError as error:
                self._fail(spec.name, error)
        order = self._sort(features)
        for name in order:
            feature = features[name]
            known = _columns(features)
            for column in feature.inputs:
                if column not in known:
                    self._unknown_input(name, column, known)
            inputs = [known[column] for column in feature.inputs]
            try:
                features[name] = replace(
                    feature,
                    upstream=tuple(column.feature for column in inputs),
                    variables=feature.derived_variables([column.variable for column in inputs]),
                )
            except ConfigError as error:
                self._fail(name, error)
        self._check_names(features)
        self._features = features
        self._derived = tuple(order)
        self._fingerprints = {}

    def _check_names(self, features: Mapping[str, Feature]) -> None:
        owners: dict[str, str] = {}
        for feature in features.values():
            for column in feature.columns():
                owner = owners.setdefault(column, feature.name)
                if owner != feature.name:
                    wrong, right = sorted((feature.name, owner), key=lambda name: name != column)
                    self._fail(wrong, f"feature {right!r} has a column {column!r}")
        wide = {
            column_name(feature.name, key)
            for feature in features.values()
            for key, variable in feature.variables.items()
            if variable.shape
        }
        for name in features:
            stem, _, number = name.rpartition("_")
            if stem in wide and number.isdecimal():
                self._fail(name, f"{stem!r} has a column {name!r} when its axes are expanded")

    def _sort(self, features: Mapping[str, Feature]) -> list[str]:
        """Return the derived features so that each stands after what it needs."""
        known = _columns(features)
        needs: dict[str, list[str]] = {}
        for feature in features.values():
            if not feature.is_derived:
                continue
            needs[feature.name] = []
            for column in feature.inputs:
                if column in known:
                    owner = known[column].feature
                else:
                    # Perhaps an entry such as ratio_on of a derived feature not yet shaped.
                    stems = [
                        n for n in features if column.startswith(f"{n}_") and n != feature.name
                    ]
                    if not any(features[stem].is_derived for stem in stems):
                        self._unknown_input(feature.name, column, known)
                    owner = max(stems, key=len)
                needs[feature.name].append(owner)
        order: list[str] = []
        while needs:
            ready = next((n for n, up in needs.items() if not set(up) & set(needs)), None)
            if ready is None:
                self._fail(next(iter(needs)), f"a cycle, features need each other: {_cycle(needs)}")
            order.append(ready)
            del needs[ready]
        return order

    def _postprocessing(self, config: FeatureConfig) -> Iterable[FeatureSpec]:
        """Yield the features that ``postprocessing`` adds, one step after the other."""
        newest: dict[str, str] = {}
        for number, step in enumerate(config.steps):
            try:
                change = transform(step)
            except ConfigError as error:
                raise ConfigError(
                    f"config {self.name!r}, postprocessing[{number}]: {error}"
                ) from None
            for target in step.targets:
                current = newest.get(target, target)
                if current not in self._features:
                    raise ConfigError(
                        f"config {self.name!r}, postprocessing[{number}]: unknown target "
                        f"{target!r}{did_you_mean(target, self._features)}"
                    )
                newest[target] = f"{current}_{change.suffix}"
                yield FeatureSpec(
                    name=newest[target],
                    func=change.func,
                    input=current,
                    params=change.params,
                    unit=self._features[current].variables["value"].unit
                    if change.keeps_unit
                    else "",
                    description=f"{current}, {change.description}",
                )


_HEADER = ("feature", "from", "inputs", "unit")


def _cycle(needs: Mapping[str, list[str]]) -> str:
    path = [next(iter(needs))]
    while True:
        following = next(name for name in needs[path[-1]] if name in needs)
        if following in path:
            return " → ".join([*path[path.index(following) :], following])
        path.append(following)


def _columns(features: Mapping[str, Feature]) -> dict[str, Column]:
    return {
        name: column for feature in features.values() for name, column in feature.columns().items()
    }
