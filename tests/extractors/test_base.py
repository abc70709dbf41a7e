"""The contract of extractors: registry, parameters, batches, shapes and statuses."""

from __future__ import annotations

import pickle
from datetime import timedelta
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from pydantic import Field

from oectflow.errors import ConfigError, OectflowError, ParameterError, UnknownExtractor
from oectflow.extractors import base
from oectflow.extractors.base import (
    ABSENT,
    COMMON_STATUSES,
    ERROR,
    OK,
    BaseExtractor,
    Params,
    Variable,
    extractor_names,
    get_extractor,
    missing,
    register,
    stack_steps,
)
from oectflow.measurement import Batch

SWEEP = {"Vg": np.array([0.0, 0.1, 0.2]), "Id": np.array([1e-6, 2e-6, 4e-6])}


class MeanParams(Params):
    power: int = Field(1, ge=1)
    of: Literal["Id", "Vg"] = "Id"


class Mean(BaseExtractor):
    """Mean of a power; it answers ``nothing`` for an empty step."""

    name = "transfer.mean"
    source = "transfer"
    unit = "A"
    description = "mean current"
    statuses = {"nothing": "the step is empty"}  # noqa: RUF012 - as a user would write it
    Params = MeanParams

    def extract_single_step(self, step_data, params):
        samples = step_data[params["of"]]
        if not samples.size:
            return {"value": np.nan, "status": "nothing"}
        return (samples ** params["power"]).mean()


class Returns(BaseExtractor):
    """Return what the test says."""

    name = "transfer.returns"
    source = "transfer"

    def extract_single_step(self, step_data, params):
        return params["what"]


class Ragged(BaseExtractor):
    """One pair per sample."""

    name = "transfer.ragged"
    source = "transfer"

    @property
    def output_shape(self):
        return ("n_cycles", 2)

    def extract_single_step(self, step_data, params):
        return np.stack([step_data["Vg"], step_data["Id"]], axis=1)


BUILT_IN = [
    name
    for name in extractor_names()
    if type(get_extractor(name)).__module__.startswith("oectflow.")
]


@pytest.fixture
def registry(monkeypatch):
    """The registry, put back afterwards."""
    monkeypatch.setattr(base, "_registry", dict(base._registry))
    return base._registry


# Registry -----------------------------------------------------------------------------------------


def test_register__is_found_with_its_name(registry):
    register("transfer.my_mean")(type("MyMean", (Mean,), {}))
    extractor = get_extractor("transfer.my_mean", {"power": 2})
    assert extractor.name == "transfer.my_mean"
    assert extractor.params == {"power": 2, "of": "Id"}
    assert "transfer.my_mean" in extractor_names()


def test_names__all_built_in():
    assert set(extractor_names()) >= {
        "transfer.gm_max",
        "transfer.Von",
        "transfer.absI_max",
        "transfer.gm_max_coords",
        "transfer.Von_coords",
        "transient.cycles",
        "transient.peak_current",
        "transient.decay_time",
        "transient.tau_on_off",
    }
    assert extractor_names() == sorted(extractor_names())


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("transfer.gm_maxx", "transfer.gm_max"),
        ("Transfer.GM_max", "transfer.gm_max"),
        ("transfer.von", "transfer.Von"),
        ("transient.cycle", "transient.cycles"),
    ],
)
def test_get__unknown_names_the_nearest(wanted, near):
    with pytest.raises(UnknownExtractor, match=f"{wanted!r}; did you mean {near!r}"):
        get_extractor(wanted)


def test_get__far_away_lists_all():
    with pytest.raises(UnknownExtractor, match=r"known: .*transfer.gm_max.*transient.cycles"):
        get_extractor("???")


@pytest.mark.parametrize("name", ["gm_max", "transfer.", ".gm", "transfer.gm.max", "a b.c", ""])
def test_register__malformed_name(name, registry):
    with pytest.raises(ConfigError, match=r"source\.word"):
        register(name)


def test_register__no_extractor(registry):
    with pytest.raises(ConfigError, match="does not derive from BaseExtractor"):
        register("transfer.number")(int)
    with pytest.raises(ConfigError, match="does not derive from BaseExtractor"):
        register("transfer.function")(len)


def test_register__source_is_no_kind(registry):
    with pytest.raises(
        ConfigError, match=r"Lost\.source is 'curves', expected one of transfer, output"
    ):
        register("transfer.lost")(type("Lost", (BaseExtractor,), {"source": "curves"}))
    assert "transfer.lost" not in registry


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("impedance.z", "impedance"),
        ("output.transfer_ratio", "output"),
        ("lab.my_transfer_slope", "transfer"),
        ("lab.TransientCharge", "transient"),
        ("lab.transfer_and_transient", ""),
        ("lab.output_power", ""),
    ],
)
def test_register__without_source_it_is_what_the_name_tells(registry, name, source):
    register(name)(type("Open", (BaseExtractor,), {}))
    assert get_extractor(name).source == source
    assert get_extractor(name, source="transient").source == "transient"
    assert registry[name].source == ""


def test_extract_alone__is_for_classes_without_a_single_step():
    class Loop(BaseExtractor):
        def extract(self, data, params=None):
            return np.array([self.extract_single_step(step, params) for step in data])

    class Leaf(Loop):
        def extract_single_step(self, step_data, params):
            return 1.0

    assert (Loop().takes_all_steps, Leaf().takes_all_steps) == (True, False)
    assert Leaf().steps_per_block({}) == 1
    assert Loop().steps_per_block({}) > 10**9
    with pytest.raises(NotImplementedError, match="takes all steps of an experiment at once"):
        Loop().extract_step(SWEEP)


def test_n_steps_in_the_shape_does_not_count():
    class Many(BaseExtractor):
        output_shape = ("n_steps", "n_cycles", 2)

    assert Many().variables["value"].shape == ("n_cycles", 2)
    assert Many().variables["value"].dims[0] == "cycle"


def test_register__the_newest_class_of_a_name_counts(registry):
    first = type("Mine", (Mean,), {})
    again = type("Mine", (Mean,), {})
    register("transfer.mine")(first)
    register("transfer.mine")(again)
    assert registry["transfer.mine"] is again
    other = type("Other", (Mean,), {})
    with pytest.warns(UserWarning, match=r"Other takes the place of .*test_base\.Mine"):
        register("transfer.mine")(other)
    assert registry["transfer.mine"] is other


# Parameters ---------------------------------------------------------------------------------------


def test_params__defaults_and_conversion():
    assert Mean().params == {"power": 1, "of": "Id"}
    assert Mean({"power": 3.0}).params == {"power": 3, "of": "Id"}
    assert Returns({"what": 1, "else": None}).params == {"what": 1, "else": None}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"pover": 2}, r"transfer\.mean: unknown parameter 'pover'; did you mean 'power'\?"),
        ({"xyz": 2}, r"unknown parameter 'xyz'; known: of, power"),
        ({"power": 0}, r"transfer\.mean: power=0: .*greater than or equal to 1"),
        ({"power": 1.5}, r"power=1\.5: .*integer"),
        ({"of": "Ig"}, r"of='Ig': .*'Id' or 'Vg'"),
    ],
)
def test_params__wrong_ones_are_named(params, said):
    with pytest.raises(ParameterError, match=said) as caught:
        Mean(params)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert isinstance(caught.value, ValueError | OectflowError)


def test_params__given_dict_is_not_kept():
    given = {"what": 1.0}
    extractor = Returns(given)
    given["what"] = 2.0
    assert extractor.extract_step(SWEEP)["value"] == 1.0


def test_extract__overrides_parameters():
    assert Mean().extract([SWEEP]) == pytest.approx(SWEEP["Id"].mean())
    assert Mean({"power": 2}).extract([SWEEP], {"of": "Vg"}) == (
        pytest.approx((SWEEP["Vg"] ** 2).mean())
    )
    with pytest.raises(ParameterError, match="did you mean 'power'"):
        Mean().extract([SWEEP], {"powr": 1})


def test_pickle__extractor_and_params():
    extractor = Mean({"power": 2})
    again = pickle.loads(pickle.dumps(extractor))
    assert again.params == extractor.params
    assert again.extract_step(SWEEP)["value"] == extractor.extract_step(SWEEP)["value"]
    for name in BUILT_IN:
        built_in = get_extractor(name)
        again = pickle.loads(pickle.dumps(built_in))
        assert (again.name, again.params) == (name, built_in.params)
        assert again.variables == built_in.variables


# Batch --------------------------------------------------------------------------------------------


def test_batch__from_steps_and_back():
    steps = [
        {"drain_current": np.arange(3), "original_time": [0, 1, 2], "gate_period": 0.1},
        {"drain_current": np.empty(0), "original_time": [], "gate_period": np.nan},
        {"drain_current": [7.0], "original_time": [9.0], "gate_period": 1},
    ]
    batch = Batch.from_steps(steps)
    assert len(batch) == 3
    assert batch.offsets.tolist() == [0, 3, 3, 4]
    assert batch.offsets.dtype == np.int64
    for i, step in enumerate(steps):
        back = batch.step(i)
        assert back.keys() == {*step, "sample"}
        np.testing.assert_array_equal(back["drain_current"], step["drain_current"])
        np.testing.assert_array_equal(back["original_time"], step["original_time"])
        assert isinstance(back["gate_period"], float)
        np.testing.assert_equal(back["gate_period"], float(step["gate_period"]))
    for array in batch.arrays.values():
        assert array.dtype == np.float64
        assert array.flags.c_contiguous
    assert np.shares_memory(batch.step(0)["drain_current"], batch.arrays["drain_current"])
    assert len(Batch.from_steps([])) == 0


def test_batch__same_length_in_every_array_of_a_step():
    # The sums are equal: only a comparison step by step finds it.
    steps = [
        {"Vg": np.zeros(3), "Id": np.zeros(2)},
        {"Vg": np.zeros(2), "Id": np.zeros(3)},
    ]
    with pytest.raises(ValueError, match="'Id' and 'Vg' of a step differ in length"):
        Batch.from_steps(steps)


def test_batch__pickles():
    batch = pickle.loads(pickle.dumps(Batch.from_steps([SWEEP, SWEEP])))
    np.testing.assert_array_equal(batch.step(1)["Id"], SWEEP["Id"])


# Results ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("returned", [1, 1.0, np.float32(1), np.array(1.0), {"value": 1}])
def test_extract_step__a_number_in_any_dress(returned):
    result = Returns({"what": returned}).extract_step(SWEEP)
    assert result["value"].dtype == np.float64
    assert result["value"] == 1.0
    assert (result["status"], result["status"].dtype) == (OK, np.int8)


def test_extract_step__status_words_and_codes():
    assert Mean().extract_step({"Id": np.empty(0)})["status"] == len(COMMON_STATUSES)
    for status, code in (("ok", OK), ("absent", ABSENT), ("error", ERROR), (2, 2)):
        result = Returns({"what": {"value": 0.0, "status": status}}).extract_step(SWEEP)
        assert result["status"] == code


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([1.0, 2.0], r"transfer\.returns returned shape \(2,\), its output_shape is \(\)"),
        ({"value": 1.0, "status": "absnt"}, "status 'absnt'; did you mean 'absent'"),
        ({"value": 1.0, "quality": 2.0}, r"returned \['quality', 'status', 'value'\]"),
    ],
)
def test_extract_step__what_was_not_declared_is_an_error(returned, said):
    with pytest.raises(ValueError, match=said):
        Returns({"what": returned}).extract_step(SWEEP)


NO_NUMBERS = [
    None,
    [None],
    np.ma.masked,
    np.ma.masked_invalid([np.nan]),
    1.0 + 0.0j,
    "1.5",
    b"1.5",
    np.timedelta64(3, "s"),
    timedelta(seconds=3),
    np.datetime64("2026-01-01"),
    Fraction(1, 2),
    np.array(1.5, object),
    {"a": 1}.keys(),
]


@pytest.mark.parametrize("returned", NO_NUMBERS, ids=repr)
def test_extract_step__what_is_no_real_number_is_an_error(returned):
    for result in (returned, {"value": returned}, {"value": returned, "status": "ok"}):
        with pytest.raises((TypeError, ValueError), match=r"^transfer\.returns returned "):
            Returns({"what": result}).extract_step(SWEEP)


def test_extract_step__a_mask_that_hides_nothing_is_none():
    assert Returns({"what": np.ma.array(1.5)}).extract_step(SWEEP)["value"] == 1.5


@pytest.mark.parametrize("status", [3, 4, 256, -1, -256, np.uint64(2**63), 10**9])
def test_extract_step__a_status_code_without_a_word_is_an_error(status):
    with pytest.raises(ValueError, match=f"status code {status}, its words have the codes 0 to 2"):
        Returns({"what": {"value": 1.0, "status": status}}).extract_step(SWEEP)


@pytest.mark.parametrize("status", [0.0, None, 0j, np.bool_(False), np.ma.masked, ["ok"], 10**30])
def test_extract_step__a_status_that_is_no_code_is_an_error(status):
    with pytest.raises((TypeError, ValueError), match=r"^transfer\.returns: 'status' returned "):
        Returns({"what": {"value": 1.0, "status": status}}).extract_step(SWEEP)


def test_extract_step__companions_are_checked_as_values_are():
    class Companion(Returns):
        @property
        def variables(self):
            return super().variables | {"n": Variable("", "points", dtype="int64")}

    for n in (None, "3", 3j, np.ma.masked, [3], np.timedelta64(3, "s")):
        with pytest.raises((TypeError, ValueError), match="'n' returned"):
            Companion({"what": {"value": 1.0, "n": n}}).extract_step(SWEEP)
    assert Companion({"what": {"value": 1.0, "n": 3}}).extract_step(SWEEP)["n"] == 3


def test_extract_step__fixed_axis_is_checked_and_named_axis_is_not():
    assert Ragged().extract_step(SWEEP)["value"].shape == (3, 2)
    wrong = type("Wrong", (Ragged,), {"extract_single_step": lambda *_: np.zeros((3, 3))})
    with pytest.raises(ValueError, match=r"shape \(3, 3\), its output_shape is \('n_cycles', 2\)"):
        wrong().extract_step(SWEEP)


def test_extract_step__not_written():
    empty = type("Empty", (BaseExtractor,), {"source": "transfer"})
    with pytest.raises(NotImplementedError, match="Empty does not define extract_single_step"):
        empty().extract_step(SWEEP)


def test_extract__pads_shorter_steps():
    short = {name: array[:1] for name, array in SWEEP.items()}
    values = Ragged().extract([SWEEP, short])
    assert values.shape == (2, 3, 2)
    np.testing.assert_array_equal(values[0, :, 0], SWEEP["Vg"])
    np.testing.assert_array_equal(values[1, 0], [0.0, 1e-6])
    assert np.isnan(values[1, 1:]).all()
    assert Ragged().extract([]).shape == (0, 0, 2)
    assert Mean().extract([]).shape == (0,)


def test_stack_steps__every_type_has_its_gap():
    variables = {
        "value": Variable("A", "", ("n_cycles",)),
        "status": Variable("", "", ("n_cycles",), dtype="int8", statuses=COMMON_STATUSES),
        "index": Variable("", "", ("n_cycles",), dtype="int64"),
        "single": Variable("", "", ("n_cycles",), dtype="float32"),
    }
    steps = [dict.fromkeys(variables, np.zeros(n)) for n in (2, 0)]
    columns = stack_steps(variables, steps)
    for name, variable in variables.items():
        assert columns[name].shape == (2, 2)
        assert columns[name].dtype == variable.dtype
        np.testing.assert_array_equal(columns[name][0], 0)
    assert np.isnan(columns["value"][1]).all()
    assert np.isnan(columns["single"][1]).all()
    assert (columns["status"][1] == ABSENT).all()
    assert (columns["index"][1] == -1).all()
    assert missing(variables["status"]) == ABSENT


def test_variables__dims_from_the_shape():
    assert Ragged().output_dims == ("cycle", "ragged_axis1")
    value = Mean().variables["value"]
    assert (value.unit, value.description, value.shape, value.dims) == ("A", "mean current", (), ())
    assert list(Mean().variables["status"].statuses) == [*COMMON_STATUSES, "nothing"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in__formula_can_be_typeset(name):
    mathtext = pytest.importorskip("matplotlib.mathtext")
    formula = get_extractor(name).formula
    assert "$" not in formula
    mathtext.MathTextParser("path").parse(f"${formula}$")


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in__declares_what_a_reader_needs(name):
    extractor = get_extractor(name)
    # A pure number says so with an empty unit.
    assert any("unit" in vars(cls) for cls in type(extractor).__mro__ if cls is not BaseExtractor)
    assert extractor.description
    assert extractor.definition
    assert extractor.formula
    assert extractor.reference
    assert extractor.Params is not None
    names = list(extractor.variables)
    assert names[:2] == ["value", "status"]
    for variable in extractor.variables.values():
        assert len(variable.shape) == len(variable.dims)
        for dim, labels in variable.labels.items():
            assert len(labels) == variable.shape[variable.dims.index(dim)]
    words = extractor.variables["status"].statuses
    assert list(words)[:3] == list(COMMON_STATUSES)
    assert all(words.values())
