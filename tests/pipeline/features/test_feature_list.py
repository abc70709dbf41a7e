"""Feature sets: consistent or refused, in the right order, with the right derived numbers."""

from __future__ import annotations

import functools
import itertools
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from oectflow.errors import (
    ConfigError,
    ExpressionError,
    ParameterError,
    UnknownExtractor,
)
from oectflow.extractors.base import BaseExtractor, Params, Variable, register
from oectflow.pipeline.features.config import list_bundled
from oectflow.pipeline.features.feature import STATUSES, UNDEFINED
from oectflow.pipeline.features.feature_list import FeatureList

NAN = np.nan
OK, ABSENT, ERROR = 0, 1, 2


@register("test_features.number")
class Number(BaseExtractor):
    """One number per sweep."""

    source = "transfer"
    unit = "S"
    description = "a number"

    class Params(Params):
        scale: float = 1.0

    def extract_single_step(self, step_data: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        return params["scale"] * step_data["Id"].max()


@register("test_features.phases")
class Phases(BaseExtractor):
    """On and off per cycle, with a companion."""

    source = "transient"
    unit = "s"
    statuses: ClassVar[Mapping[str, str]] = {"noisy": "noise"}

    class Params(Params):
        n_cycles: int | None = None

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        return (self.params["n_cycles"] or "n_cycles", 2)

    @property
    def output_dims(self) -> tuple[str, ...]:
        return ("cycle", "phase")

    @property
    def output_labels(self) -> Mapping[str, tuple[str, ...]]:
        return {"phase": ("on", "off")}

    @property
    def variables(self) -> dict[str, Variable]:
        return super().variables | {"r2": Variable("", "goodness", ("n_cycles",), ("cycle",))}


def number(**more: Any) -> dict[str, Any]:
    return {"extractor": "test_features.number", "input": "transfer", **more}


def load(features: Mapping[str, Any], **more: Any) -> FeatureList:
    listed = [{"name": name, **spec} for name, spec in features.items()]
    return FeatureList.load({"name": "mine", "features": listed, **more})


def phases(name: str = "tau", **params: Any) -> FeatureList:
    return FeatureList("mine").add(name, extractor="test_features.phases", params=params)


def test_load__order_and_properties() -> None:
    features = load(
        {
            "norm": {"func": "lambda x: x / x.mean()", "input": "ratio"},
            "ratio": {"func": "b / a", "input": ["b", "a"], "unit": "1"},
            "a": number(),
            "tau": {"extractor": "test_features.phases"},
            "early": {"func": "a + 1", "input": "a"},
            "b": number(params={"scale": 2}, unit="mS", description="twice"),
        }
    )
    assert features.name == "mine"
    assert list(features.features) == ["norm", "ratio", "a", "tau", "early", "b"]
    assert [feature.name for feature in features.extracted] == ["a", "tau", "b"]
    # Of those that are ready, the first in the configuration; norm has to wait for ratio.
    assert [feature.name for feature in features.derived] == ["ratio", "norm", "early"]
    assert features.sources == ("transfer", "transient")
    assert load({"a": number()}).sources == ("transfer",)
    assert features.features["ratio"].inputs == ("b", "a")
    assert features.features["tau"].inputs == ("transient",)
    assert features.features["b"].extractor is not None
    assert features.features["b"].extractor.params == {"scale": 2.0}
    assert len(features) == 6
    assert FeatureList.load(features) is features


def test_variables__names_units_and_companions() -> None:
    features = load(
        {
            "tau": {"extractor": "test_features.phases", "description": "mine"},
            "a": number(unit="mS"),
            "faster": {"func": "tau / 2", "input": "tau", "unit": "s"},
        }
    )
    variables = features.variables
    assert list(variables) == [
        "tau",
        "tau_status",
        "tau_r2",
        "a",
        "a_status",
        "faster",
        "faster_status",
    ]
    assert variables["a"].unit == "mS"
    assert variables["a"].description == "a number"
    assert variables["tau"].unit == "s"
    assert variables["tau"].description == "mine"
    assert variables["tau_r2"].description == "goodness"
    assert list(variables["tau_status"].statuses) == ["ok", "absent", "error", "noisy"]
    assert variables["faster"].unit == "s"
    assert variables["faster"].description == "tau / 2"
    assert list(variables["faster_status"].statuses) == ["ok", "absent", "error", "undefined"]
    assert variables["faster_status"].dtype == "int8"


@pytest.mark.parametrize(
    ("func", "unit"),
    [
        ("tau_on.mean(axis=1)", "s"),
        ("median(tau_on[tau_r2 > 0.5], axis=1)", "s"),
        ("first(tau_on, axis=1)", "s"),
        ("drift(tau_on[tau_r2 > 0.5], axis=1)", "s/cycle"),
        ("tau_on.drift(axis=-1)", "s/cycle"),
        ("drift(tau, axis=1)", "s/cycle"),
        ("drift(tau_r2, axis=1)", "1/cycle"),
        ("drift(median(tau_on, axis=1))", ""),
        ("a.mean()", "S"),
        ("drift(a)", "S/step"),
        ("np.diff(a, prepend=0)", "S"),
        ("tau_on[:, 0]", "s"),
        ("drift(tau_on[:, :10], axis=1)", ""),
        ("a / a.mean()", ""),
        ("np.log10(a)", ""),
        ("a.argmax()", ""),
        ("point.mean(axis=1)", ""),
    ],
)
def test_variables__unit_follows_from_the_input(func: str, unit: str) -> None:
    features = load(
        {
            "tau": {"extractor": "test_features.phases"},
            "a": number(),
            "point": {"extractor": "transfer.gm_max_coords"},
            "b": {"func": func},
        }
    )
    assert features.variables["b"].unit == unit
    assert FeatureList.load(features.to_config()).variables["b"].unit == unit
    features.add("c", func=func, unit="mine")
    assert features.variables["c"].unit == "mine"


@pytest.mark.parametrize(
    ("func", "shape", "dims", "labels"),
    [
        ("a / 2", (), (), {}),
        ("tau / a", ("n_cycles", 2), ("cycle", "phase"), {"phase": ("on", "off")}),
        ("tau[:, :, 0]", ("n_cycles",), ("cycle",), {}),
        ("tau.mean(axis=1)", (2,), ("phase",), {"phase": ("on", "off")}),
        ("tau[:, :2]", (2, 2), ("new_axis0", "phase"), {"phase": ("on", "off")}),
        ("tau[:, 1:]", ("new_axis0", 2), ("new_axis0", "phase"), {"phase": ("on", "off")}),
        ("tau_r2.max(axis=1) * a", (), (), {}),
        ("np.where(tau_status == 0, tau[:, :, 0], np.nan).mean(axis=1)", (), (), {}),
        ("tau.mean()", (), (), {}),
    ],
)
def test_variables__shape_of_a_derived_feature(
    func: str, shape: Any, dims: Any, labels: Any
) -> None:
    if "tau_status" in func:
        func = func.replace("tau_status == 0", "tau_r2 > 0")
    features = phases().add("a", extractor="test_features.number").add("new", func=func)
    variable = features.variables["new"]
    assert (variable.shape, variable.dims, dict(variable.labels)) == (shape, dims, labels)
    # What comes out has the shape that was foretold.
    rng = np.random.default_rng(1)
    columns = {"tau": rng.random((4, 6, 2)), "tau_r2": rng.random((4, 6)), "a": rng.random(4)}
    result, failures = features.compute_derived(columns)
    assert failures == []
    lengths = {"n_cycles": 6, "new_axis0": 5}
    assert result.columns["new"].shape == (4, *(lengths.get(size, size) for size in shape))
    assert result.variables["new"] == variable


def test_variables__fixed_axes_are_checked_at_once() -> None:
    features = phases(n_cycles=10).add("tenth", func="tau[:, 9, 0]")
    assert features.variables["tenth"].shape == ()
    assert features.add("most", func="tau[:, 1:, 0]").variables["most"].shape == (9,)
    with pytest.raises(ExpressionError, match=r"feature 'eleventh'.*out of bounds"):
        features.add("eleventh", func="tau[:, 10, 0]")
    # With an unknown number of cycles, the measurement decides.
    assert phases().add("far", func="tau[:, 999, 0]").variables["far"].shape == ()


def test_compute_derived__numbers_and_status() -> None:
    features = load(
        {
            "a": number(),
            "b": number(),
            "ratio": {"func": "a / b", "input": ["a", "b"]},
            "norm": {"func": "lambda r: (r - r.mean()) / r.std()", "input": "ratio"},
            "mean": {"func": "a.mean()", "input": "a"},
        }
    )
    a = np.array([1.0, 2.0, NAN, 4.0, NAN, 6.0])
    b = np.array([2.0, 2.0, 1.0, NAN, NAN, 0.0])
    columns = {
        "a": a,
        "b": b,
        "a_status": np.array([OK, OK, ERROR, OK, ABSENT, OK], np.int8),
        "b_status": np.array([OK, OK, OK, 3, ABSENT, OK], np.int8),
    }
    result, failures = features.compute_derived(columns)
    assert failures == []
    assert_array_equal(result.columns["ratio"], [0.5, 1, NAN, NAN, NAN, np.inf])
    expected = [OK, OK, ERROR, UNDEFINED, ABSENT, UNDEFINED]
    assert_array_equal(result.columns["ratio_status"], expected)
    assert result.columns["ratio_status"].dtype == np.int8
    assert STATUSES["undefined"].startswith("an input has no value")
    assert_array_equal(result.columns["mean"], np.full(6, 13 / 4))
    assert_array_equal(result.columns["mean_status"], np.zeros(6))
    assert result.owners == {column: column.removesuffix("_status") for column in result.columns}
    assert set(columns) == {"a", "b", "a_status", "b_status"}


def test_compute_derived__entries_with_names_are_inputs() -> None:
    features = phases().add("ratio", func="tau_on / tau_off").add("half", func="tau / 2")
    features.add("back", func="lambda h: 2 * h", input="half_off")
    assert features.features["ratio"].inputs == ("tau_on", "tau_off")
    assert features.features["ratio"].upstream == ("tau", "tau")
    assert features.features["back"].upstream == ("half",)
    assert features.variables["ratio"].dims == ("cycle",)
    assert FeatureList.load(features.to_config()).variables == features.variables
    with pytest.raises(ConfigError, match=r"feature 'x': unknown input 'half_of'.*'half_off'"):
        load(
            {
                "half": {"func": "tau / 2"},
                "tau": {"extractor": "test_features.phases"},
                "x": {"func": "half_of * 2"},
            }
        )
    tau = np.random.default_rng(7).random((3, 4, 2))
    result, failures = features.compute_derived({"tau": tau})
    assert failures == []
    assert_array_equal(result.columns["ratio"], tau[..., 0] / tau[..., 1])
    assert_array_equal(result.columns["back"], tau[..., 1])
    on = phases().add("x", func="lambda v: v", input="tau_on").fingerprints()["x"]
    assert on != phases().add("x", func="lambda v: v", input="tau_off").fingerprints()["x"]


def test_compute_derived__wanted_only() -> None:
    features = load(
        {"a": number(), "x": {"func": "a + 1"}, "y": {"func": "x * 2"}, "z": {"func": "y - 1"}}
    )
    result, failures = features.compute_derived({"a": np.ones(2), "x": np.full(2, 10.0)}, ["y"])
    assert failures == []
    assert set(result.columns) == {"y", "y_status"}
    assert_array_equal(result.columns["y"], [20, 20])


def test_compute_derived__one_failure_stays_with_those_that_need_it() -> None:
    def fails(a: NDArray[np.float64]) -> NDArray[np.float64]:
        raise OSError(f"no table for {len(a)} steps")

    features = load(
        {
            "a": number(),
            "bad": {"func": fails, "input": "a"},
            "worse": {"func": "bad - a"},
            "worst": {"func": "worse + 1"},
            "good": {"func": "a * 2"},
        }
    )
    result, failures = features.compute_derived({"a": np.ones(3)})
    assert_array_equal(result.columns["good"], [2, 2, 2])
    for name in ("bad", "worse", "worst"):
        assert_array_equal(result.columns[name], np.full(3, NAN))
        assert_array_equal(result.columns[f"{name}_status"], np.full(3, ERROR))
    assert [failure.feature for failure in failures] == ["bad", "worse", "worst"]
    assert failures[0].error_type == "OSError"
    assert failures[0].message == "no table for 3 steps"
    assert "'bad' failed: no table" in failures[1].message
    assert "'worse' failed" in failures[2].message


def test_compute_derived__failed_value_has_the_shape_of_the_feature() -> None:
    features = phases().add("half", func="tau / 2").add("short", func="tau[:, 500]")
    result, failures = features.compute_derived({"tau": np.ones((3, 5, 2))})
    assert [failure.feature for failure in failures] == ["short"]
    assert "out of bounds" in failures[0].message
    result, failures = features.compute_derived({"a": np.ones(3)})
    assert "'tau' was not computed" in failures[0].message
    assert result.columns["half"].shape == (3, 1, 2)
    assert np.isnan(result.columns["half"]).all()


def test_compute_derived__python_functions() -> None:
    def first_two(tau: NDArray[np.float64], scale: float = 1) -> NDArray[np.float64]:
        tau.sort(axis=1)  # must not reach the column
        return scale * tau[:, :2, 0]

    features = (
        phases()
        .add(
            "smallest",
            func=first_two,
            input="tau",
            params={"scale": 3},
            output_shape=("n_steps", 2),
        )
        .add("silent", func=first_two, input="tau")
        .add("total", func=np.sum, input="tau")
        .add("largest", func=max, input=["tau_on", "tau_on"])
        .add("log", func=np.log10, input="tau")
        .add("wrong", func=lambda tau: tau[0], input="tau")
        .add("worded", func=lambda tau: ["a"] * len(tau), input="tau")
    )
    tau = np.random.default_rng(2).random((4, 6, 2))
    kept = tau.copy()
    result, failures = features.compute_derived({"tau": tau})
    assert_array_equal(tau, kept)
    assert_array_equal(result.columns["smallest"], 3 * np.sort(tau, axis=1)[:, :2, 0])
    assert result.variables["smallest"].shape == (2,)
    assert_array_equal(result.columns["silent"], np.sort(tau, axis=1)[:, :2, 0])
    assert result.variables["silent"].shape == (2,)
    assert_array_equal(result.columns["total"], np.full(4, tau.sum()))
    assert_array_equal(result.columns["log"], np.log10(tau))
    assert [failure.feature for failure in failures] == ["largest", "wrong", "worded"]
    assert "ambiguous" in failures[0].message
    assert "(6, 2), not one value for each of 4 steps" in failures[1].message
    assert failures[2].error_type == "ValueError"


def test_compute_derived__no_steps() -> None:
    features = phases().add("a", func="lambda t: (t - t.mean()) / t.std()", input="tau")
    result, failures = features.compute_derived({"tau": np.empty((0, 1, 2))})
    assert failures == []
    assert result.columns["a"].shape == (0, 1, 2)
    assert result.columns["a_status"].shape == (0,)


def test_compute_derived__order_of_steps_does_not_matter() -> None:
    features = load(
        {"a": number(), "z": {"func": "lambda a: (a - np.median(a)) / np.ptp(a)"}}
        | {"z": {"func": "lambda x: (x - np.median(x)) / np.ptp(x)", "input": "a"}}
    )
    a = np.random.default_rng(3).random(50)
    order = np.random.default_rng(4).permutation(50)
    straight = features.compute_derived({"a": a})[0].columns["z"]
    assert_array_equal(features.compute_derived({"a": a[order]})[0].columns["z"], straight[order])


@pytest.mark.parametrize(
    ("features", "kind", "message"),
    [
        ({"a": {"extractor": "test_features.numbr"}}, UnknownExtractor, "did you mean 'test_feat"),
        ({"a": number(params={"scal": 1})}, ParameterError, "did you mean 'scale'"),
        ({"a": number(params={"scale": "x"})}, ParameterError, "scale='x'"),
        (
            {"a": number() | {"input": "transient"}},
            ConfigError,
            "reads 'transfer', but .*'transient'",
        ),
        (
            {"b": number(), "a": number() | {"input": "b"}},
            ConfigError,
            "reads 'transfer', but .*'b'",
        ),
        ({"a": {"input": "transfer"}}, ConfigError, "give 'extractor' or 'func'"),
        ({"a": {"func": "transfer * 2", "input": "transfer"}}, ConfigError, "BaseExtractor"),
        ({"a": {"func": "b * 2", "input": "b"}}, ConfigError, "unknown input 'b'"),
        ({"b": number(), "a": {"func": "bb * 2"}}, ConfigError, "'bb'"),
        ({"gm_max": number(), "a": {"func": "gm_mx * 2"}}, ConfigError, "mean 'gm_max'"),
        ({"a": {"func": "a * 2"}}, ConfigError, "need each other: a → a"),
        (
            {"a": {"func": "b * 2"}, "b": {"func": "c"}, "c": {"func": "a"}},
            ConfigError,
            "need each other: a → b → c → a",
        ),
        ({"b": number(), "a": {"func": "open('x')", "input": "b"}}, ExpressionError, "'open'"),
        ({"b": number(), "a": {"func": "b[:, 0]"}}, ExpressionError, "2 indices for an array of 1"),
        ({"b": number(), "a": {"func": abs}}, ConfigError, "input is missing"),
        ({"b": number(), "a": {"func": lambda x, y: x, "input": "b"}}, ConfigError, "'y'"),
        (
            {"b": number(), "a": {"func": lambda x: x, "input": "b", "params": {"k": 1}}},
            ConfigError,
            "unexpected keyword argument 'k'",
        ),
        (
            {"x": {"extractor": "test_features.phases"}, "a": number(), "x_status": number()},
            ConfigError,
            r"'x' has a column 'x_status'",
        ),
        (
            {"x_r2": number(), "x": {"extractor": "test_features.phases"}},
            ConfigError,
            r"'x' has a column 'x_r2'",
        ),
        (
            {"x_on": number(), "x": {"extractor": "test_features.phases"}},
            ConfigError,
            r"'x' has a column 'x_on'",
        ),
        ({"x": {"extractor": "test_features.phases"}, "x_0": number()}, ConfigError, "expanded"),
        ({"b": number(), "b_status": {"func": "b"}}, ConfigError, "'b' has a column 'b_status'"),
    ],
)
def test_load__refused(features: Any, kind: type[ConfigError], message: str) -> None:
    with pytest.raises(kind, match=rf"^config 'mine', feature '\w+': .*{message}"):
        load(features)


@pytest.mark.parametrize("name", ["gm-max", "gm max", "τ_on", "_x", "Von_正向", "A1", "x" * 128])
def test_names__allowed(name: str) -> None:
    features = load({name: number(), "twice": {"func": "lambda x: 2 * x", "input": name}})
    assert_array_equal(features.compute_derived({name: np.ones(1)})[0].columns["twice"], [2])


@pytest.mark.parametrize(
    "name",
    [
        "",
        " gm",
        "gm ",
        "1gm",
        "-gm",
        "a.b",
        "a/b",
        "a\nb",
        "a\x00",
        "x" * 129,
        "step_index",
        "problems",
        "transfer",
        "transient",
        "experiment_id",
        "gate_period",
        "a\u202eb",
    ],
)
def test_names__refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        load({name: number()})


def test_names__given_twice() -> None:
    twice = [{"name": "a", **number()}, {"name": "a", **number()}]
    with pytest.raises(ConfigError, match="config 'm', feature 'a': there are two"):
        FeatureList.load({"name": "m", "features": twice})


def test_names__a_number_at_the_end_is_fine_beside_single_numbers() -> None:
    features = load({"gm": number(), "gm_2": number(), "gm_3": {"func": "gm + gm_2"}})
    assert list(features.features) == ["gm", "gm_2", "gm_3"]


def test_add__chained_and_atomic() -> None:
    features = FeatureList("mine", "for a test").add("a", extractor="test_features.number")
    same = features.add("b", func="lambda a, k: k * a", input="a", params={"k": 2}, unit="S")
    assert same is features
    for wrong in (
        {"name": "a", "extractor": "test_features.number"},
        {"name": "a_status", "func": "a"},
        {"name": "c"},
        {"name": 3, "func": "a"},
    ):
        with pytest.raises(ConfigError, match="config 'mine'"):
            features.add(**wrong)
    assert list(features.features) == ["a", "b"]
    assert [feature.name for feature in features.derived] == ["b"]
    assert_array_equal(features.compute_derived({"a": np.ones(2)})[0].columns["b"], [2, 2])


def test_extractor_wins_over_func() -> None:
    feature = load({"a": number(func="b * 2")}).features["a"]
    assert feature.extractor is not None
    assert feature.expression is None


def test_str_and_html() -> None:
    features = load(
        {"a": number(), "b<": number()}
        if False
        else {
            "a": number(),
            "b": {"func": "lambda x: x if x < 1 else x", "input": "a", "unit": "S"},
        }
    )
    text = str(features)
    assert "FeatureSet 'mine'" in text
    assert "test_features.number" in text
    assert "lambda x: x if x < 1 else x" in text
    html = features._repr_html_()
    assert "<td>lambda x: x if x &lt; 1 else x</td>" in html
    assert html.count("<tr>") == 3
    assert "a, b" in repr(features)


def test_describe__is_plain_data() -> None:
    import json

    features = load({"a": number(), "b": {"func": "lambda a, k: a * k", "params": {"k": 2}}})
    described = {name: feature.describe() for name, feature in features.features.items()}
    again = json.loads(json.dumps(described, allow_nan=False))
    assert again == described
    assert described["a"]["extractor"] == "test_features.number"
    assert described["a"]["params"] == {"scale": 1.0}
    assert described["a"]["unit"] == "S"
    tau = load({"tau": {"extractor": "transient.tau_on_off"}}).features["tau"].describe()
    assert all(tau[key] for key in ("definition", "formula", "reference"))
    assert described["b"]["func"] == "lambda a, k: a * k"
    assert described["b"]["inputs"] == ["a"]


@register("test_features.free")
class Free(Number):
    """Takes any parameter."""

    Params = None


def test_describe__any_parameter() -> None:
    params = {
        "array": np.arange(2),
        "one": np.float32(1),
        "tuple": (1, None),
        "odd": 1j,
        "nan": NAN,
    }
    described = load({"a": {"extractor": "test_features.free", "params": params}}).features["a"]
    assert described.describe()["params"] == {
        "array": [0, 1],
        "one": 1.0,
        "tuple": [1, None],
        "odd": "1j",
        "nan": "nan",
    }


def test_to_yaml__comes_back_the_same(tmp_path: Path) -> None:
    features = load(
        {
            "a": number(params={"scale": 1e-9}, unit="mS"),
            "b": {"func": "lambda a, k: a * k", "input": "a", "params": {"k": np.float64(2)}},
            "c": {"func": "a / b", "input": ["a", "b"], "description": "τ", "unit": ""},
            "tau": {"extractor": "test_features.phases"},
        },
        description="mine",
        postprocessing=[{"type": "normalize", "target": "c", "params": {"method": "zscore"}}],
    )
    path = tmp_path / "other.yaml"
    features.to_yaml(path)
    again = FeatureList.load(path)
    assert again.name == "mine"
    assert again.description == "mine"
    assert again.to_config() == features.to_config()
    assert again.variables == features.variables
    assert again.fingerprints() == features.fingerprints()


def test_to_yaml__python_function_is_refused(tmp_path: Path) -> None:
    features = load({"a": number(), "b": {"func": abs, "input": "a"}})
    with pytest.raises(ConfigError, match="feature 'b': a Python function cannot be written"):
        features.to_yaml(tmp_path / "x.yaml")
    assert FeatureList.load(features.to_config()).features["b"].expression is abs


def test_pickle() -> None:
    features = load({"a": number(), "b": {"func": "a * np.nan"}, "c": {"func": abs, "input": "a"}})
    copy = pickle.loads(pickle.dumps(features))
    assert copy.to_config() == features.to_config()
    assert copy.fingerprints() == features.fingerprints()
    local = FeatureList("x").add("a", extractor="test_features.number")
    local.add("b", func=lambda a: a + 1, input="a")
    copy = cloudpickle.loads(cloudpickle.dumps(local))
    assert copy.fingerprints() == local.fingerprints()
    assert_array_equal(copy.compute_derived({"a": np.ones(1)})[0].columns["b"], [2])


BASE: dict[str, Any] = {
    "a": number(),
    "b": number(params={"scale": 2}),
    "x": {"func": "a / b", "input": ["a", "b"]},
    "y": {"func": "lambda x, k: k * x", "input": "x", "params": {"k": 2}},
}


def changed(name: str, **keys: Any) -> FeatureList:
    return load(BASE | {name: BASE[name] | keys})


def test_fingerprints__what_changes_which() -> None:
    base = load(BASE).fingerprints()
    assert list(base) == list(BASE)
    assert len(set(base.values())) == 4

    def stale(features: FeatureList) -> set[str]:
        return {name for name, value in features.fingerprints().items() if value != base[name]}

    assert stale(load(BASE)) == set()
    assert stale(changed("a", unit="mS", description="other")) == set()
    assert stale(changed("a", params={"scale": 1.0})) == set()  # the default
    assert stale(changed("a", params={"scale": 3})) == {"a", "x", "y"}
    assert stale(changed("x", func="a / b + 0")) == {"x", "y"}
    assert stale(changed("x", func="lambda p,q: p/q")) == set()
    assert stale(changed("x", input=["b", "a"])) == set()  # a bare expression goes by name
    assert stale(changed("x", func="lambda p, q: p / q", input=["b", "a"])) == {"x", "y"}
    assert stale(changed("y", params={"k": 3})) == {"y"}
    reordered = {name: BASE[name] for name in ("y", "x", "b", "a")}
    assert stale(load(reordered)) == set()


def test_fingerprints__input_that_is_a_companion() -> None:
    features = phases().add("p", func="lambda v: v * 1", input="tau")
    features.add("q", func="lambda v: v * 1", input="tau_r2")
    prints = features.fingerprints()
    assert prints["p"] != prints["q"]


FACTOR = 2.0


def helper(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * FACTOR


def recursive(x: Any, depth: int = 3) -> Any:
    return recursive(x, depth - 1) if depth else x


def print_of(function: Any) -> str:
    return load({"a": number(), "b": {"func": function, "input": "a"}}).fingerprints()["b"]


def test_fingerprints__python_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(k: float) -> Any:
        return lambda x: k * x

    def uses_helper(x: Any) -> Any:
        return helper(x)

    assert print_of(lambda x: x + 1) == print_of(lambda x: x + 1)
    assert print_of(lambda x: x + 1) != print_of(lambda x: x + 2)
    assert print_of(lambda x: x + 1) != print_of(lambda x: x - 1)
    assert print_of(lambda x: np.mean(x)) != print_of(lambda x: np.median(x))
    assert print_of(scaled(1.0)) == print_of(scaled(1.0))
    assert print_of(scaled(1.0)) != print_of(scaled(2.0))
    assert print_of(scaled(np.arange(3.0))) != print_of(scaled(np.arange(4.0)))
    assert print_of(functools.partial(np.quantile, q=0.1)) != print_of(
        functools.partial(np.quantile, q=0.2)
    )
    assert print_of(np.log10) != print_of(np.log2)
    assert print_of(np.nanmean) == print_of(np.nanmean) != print_of(np.nanmedian)
    assert print_of(lambda x: x in {1, 2}) != print_of(lambda x: x in {1, 3})
    assert print_of(recursive) != print_of(helper)
    before = print_of(uses_helper)
    assert print_of(uses_helper) == before
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert print_of(uses_helper) != before


def test_fingerprints__function_that_cannot_be_pinned_is_always_new() -> None:
    model = SimpleNamespace(predict=lambda x: x)
    features = load({"a": number(), "b": {"func": lambda x: model.predict(x), "input": "a"}})
    assert features.fingerprints() == features.fingerprints()
    assert features.fingerprints()["b"] != print_of(lambda x: model.predict(x))


def test_postprocessing__adds_features_in_order() -> None:
    steps = [
        {"type": "filter", "target": "a"},
        {"type": "normalize", "target": ["a", "b"], "params": {"method": "zscore"}},
    ]
    features = load(
        {"a": number(), "b": number()},
        postprocessing=steps,
        advanced={"transforms": [{"type": "normalize", "target": "b"}]},
    )
    assert list(features.features) == [
        "a",
        "b",
        "a_filtered",
        "a_filtered_zscore",
        "b_zscore",
        "b_zscore_minmax",
    ]
    assert features.variables["a_filtered"].unit == "S"
    assert features.variables["b_zscore"].unit == ""
    a = np.array([1.0, 2, 3, 4, 100, NAN])
    result, failures = features.compute_derived({"a": a, "b": a})
    assert failures == []
    assert_array_equal(result.columns["a_filtered"], [1, 2, 3, 4, NAN, NAN])
    filtered = np.array([1.0, 2, 3, 4])
    assert_allclose(
        result.columns["a_filtered_zscore"][:4],
        (filtered - 2.5) / filtered.std(),
        rtol=4 * np.finfo(float).eps,
    )
    assert_array_equal(result.columns["b_zscore_minmax"][[0, 4]], [0, 1])


def by_hand(kind: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The definitions of the transforms, written with NumPy's NaN-aware functions."""
    low, high = np.nanmin(x, 0), np.nanmax(x, 0)
    q1, q3 = np.nanpercentile(x, [25, 75], axis=0)
    same = high == low
    if kind == "minmax":
        return (x - low) / np.where(same, 1, high - low) * 3 + -1
    if kind == "zscore":
        return (x - np.nanmean(x, 0)) / np.where(same, 1, np.nanstd(x, 0))
    if kind == "robust":
        return (x - np.nanmedian(x, 0)) / np.where(q3 == q1, 1, q3 - q1)
    if kind == "l2":
        norm = np.sqrt(np.nansum(x**2, axis=-1, keepdims=True))
        return x / np.where(norm == 0, 1, norm)
    if kind == "iqr":
        return np.where((x < q1 - 1.5 * (q3 - q1)) | (x > q3 + 1.5 * (q3 - q1)), NAN, x)
    return np.where(np.abs(x - np.nanmean(x, 0)) > 2 * np.nanstd(x, 0), NAN, x)


@pytest.mark.parametrize("kind", ["minmax", "zscore", "robust", "l2", "iqr", "outliers"])
@pytest.mark.parametrize("wide", [False, True])
def test_postprocessing__numbers(kind: str, wide: bool) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_t(1.5, size=(40, 3))
    x[3, 1] = x[7] = NAN
    x[:, 2] = 0.1  # all the same: nothing to divide by
    if not wide:
        x = x[:, 0]
    if kind in ("iqr", "outliers"):
        params: dict[str, Any] = {"remove_outliers": True}
        if kind == "outliers":
            params |= {"outlier_method": "zscore", "outlier_threshold": 2}
        step: dict[str, Any] = {"type": "filter", "target": "t", "params": params}
        name = "t_filtered"
    else:
        step = {"type": "normalize", "target": "t", "params": {"method": kind}}
        if kind == "minmax":
            step["params"]["feature_range"] = [-1, 2]
        name = f"t_{kind}"
    spec = (
        {"func": lambda a: a, "input": "a"}
        if not wide
        else {"func": lambda a: a, "input": "a", "output_shape": ["n_steps", 3]}
    )
    features = load({"a": number(), "t": spec}, postprocessing=[step])
    result, failures = features.compute_derived({"a": np.zeros(40), "t": x}, [name])
    assert failures == []
    # The same operations in the same order: the same bits.
    assert_array_equal(result.columns[name], by_hand(kind, x))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "filter", "target": "b"}, "unknown target 'b'"),
        ({"type": "normalize", "target": "a", "params": {"methd": "l2"}}, "did you mean 'method'"),
        ({"type": "normalize", "target": "a", "params": {"method": "max"}}, "method.*found 'max'"),
        (
            {"type": "filter", "target": "a", "params": {"remove_outliers": False}},
            "remove_outliers",
        ),
        ({"type": "filter", "target": "a", "params": {"outlier_method": "zscore"}}, "needs an"),
        ({"type": "filter", "target": "a", "params": {"outlier_threshold": -1}}, "threshold"),
    ],
)
def test_postprocessing__refused(step: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"config 'mine', postprocessing\[0\]: .*{message}"):
        load({"a": number()}, postprocessing=[step])


@pytest.mark.parametrize("name", ["v2_transfer_basic", "v2_quick_analysis", "v2_ml_ready"])
def test_bundled__columns_of_todays_software(shared_data: Path, name: str) -> None:
    schema = pq.read_schema(shared_data / "oect_infra" / f"regular_serial.{name}.parquet")
    assert {"step_index", *FeatureList.load(name).features} == set(schema.names)


def test_bundled__derived_numbers_of_todays_software(shared_data: Path) -> None:
    path = shared_data / "oect_infra" / "regular_serial.v2_ml_ready.parquet"
    table = {k: np.array(v) for k, v in pq.read_table(path).to_pydict().items()}
    features = FeatureList.load("v2_ml_ready")
    given = {feature.name: table[feature.name] for feature in features.extracted}
    result, failures = features.compute_derived(given)
    assert failures == []
    for feature in features.derived:
        assert_array_equal(result.columns[feature.name], table[feature.name], feature.name)


@pytest.mark.parametrize("name", list_bundled())
def test_bundled__loads_and_derives(name: str) -> None:
    features = FeatureList.load(name)
    rng = np.random.default_rng(6)
    columns = {
        column: rng.random((5, *(7 if isinstance(size, str) else size for size in variable.shape)))
        for feature in features.extracted
        for column, variable in ((feature.name, feature.variables["value"]),)
    }
    words = {f"{name}_status": np.zeros(column.shape, np.int8) for name, column in columns.items()}
    columns |= words
    result, failures = features.compute_derived(columns)
    assert failures == []
    for feature in features.derived:
        assert np.isfinite(result.columns[feature.name]).all()
        assert result.variables[feature.name] == feature.variables["value"]
    assert len(set(features.fingerprints())) == len(features)
    assert FeatureList.load(features.to_config()).fingerprints() == features.fingerprints()


def test_bundled__last_cycle_is_the_last_that_was_measured() -> None:
    features = FeatureList.load("v2_transient_cycles")
    cycles = np.full((3, 100), NAN)
    cycles[0, :4] = [4.0, 3.0, 2.5, 2.0]
    cycles[1] = np.linspace(2, 1, 100)
    result, failures = features.compute_derived({"transient_cycles": cycles})
    assert failures == []
    assert_array_equal(result.columns["cycle_decay_rate"], [0.5, 0.5, NAN])
    assert_array_equal(result.columns["cycle_mean"][[0, 2]], [11.5 / 4, NAN])
    assert_array_equal(result.columns["cycle_decay_rate_status"], [OK, OK, UNDEFINED])


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"f{k}" for k in range(draw(st.integers(1, 7)))]
    return {name: draw(st.lists(st.sampled_from(names), max_size=3)) for name in names}


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_load__any_graph_is_sorted_or_its_cycle_named(needs: dict[str, list[str]]) -> None:
    specs = {
        name: {"func": " + ".join(inputs), "input": inputs} if inputs else number()
        for name, inputs in needs.items()
    }
    try:
        features = load(specs)
    except ConfigError as error:
        path = str(error).partition("each other: ")[2].split(" → ")
        assert path[0] == path[-1]
        assert len(path) > 1
        assert all(b in needs[a] for a, b in itertools.pairwise(path))
        return
    seen = {feature.name for feature in features.extracted}
    for feature in features.derived:
        assert set(feature.inputs) <= seen
        seen.add(feature.name)
    assert seen == set(needs)
