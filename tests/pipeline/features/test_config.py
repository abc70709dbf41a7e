"""Configurations: what users have loads; what is wrong is named, with the place and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oectflow.config_file import MAX_BYTES
from oectflow.errors import ConfigError
from oectflow.pipeline.features.config import (
    FeatureConfig,
    list_bundled,
    load_config,
    parse_config,
)

FULL = {
    "version": "v2",
    "name": "full",
    "config_version": 1.0,
    "data_type": "both",
    "description": "everything that a file can have",
    "data_source": {"experiment_type": "both", "load_mode": "step_by_step"},
    "features": [
        {
            "name": "gm",
            "extractor": "transfer.gm_max",
            "input": "transfer",
            "params": {"direction": "forward"},
            "output_shape": ["n_steps"],
            "description": "transconductance",
            "unit": "S",
        },
        {"name": "half", "func": "gm / 2", "input": ["gm"], "params": None},
    ],
    "postprocessing": [{"type": "normalize", "target": ["gm", "half"], "params": {"method": "l2"}}],
    "versioning": {
        "auto_create": True,
        "expand_multidim": False,
        "selected_features": ["gm"],
        "version_name": "v2_full",
    },
    "advanced": {
        "transforms": [{"type": "filter", "target": "gm"}],
        "caching": {
            "enabled": True,
            "backend": "disk",
            "memory_size_mb": 512,
            "disk_cache_dir": ".cache",
        },
        "parallel": {"enabled": True, "n_workers": 4, "backend": "threading"},
    },
}
ONE = {"name": "gm", "extractor": "transfer.gm_max", "input": "transfer"}


def test_load_config__every_key_in_yaml_json_and_dict(tmp_path: Path) -> None:
    as_yaml, as_json = tmp_path / "a.yaml", tmp_path / "b.JSON"
    as_yaml.write_text(yaml.safe_dump(FULL))
    as_json.write_text(json.dumps(FULL), encoding="utf-8-sig")
    from_dict = load_config(FULL)
    assert load_config(as_yaml) == load_config(str(as_json)) == from_dict
    assert from_dict.name == "full"
    assert from_dict.config_version == "1.0"
    assert [feature.inputs for feature in from_dict.features] == [("transfer",), ("gm",)]
    assert [step.type for step in from_dict.steps] == ["normalize", "filter"]
    assert [step.targets for step in from_dict.steps] == [["gm", "half"], ["gm"]]


@pytest.mark.parametrize("name", [None, "given"])
def test_load_config__name_is_that_of_the_file_by_default(tmp_path: Path, name: str | None) -> None:
    path = tmp_path / "my features.yml"
    path.write_text(yaml.safe_dump({"name": name, "features": [ONE]}))
    assert load_config(path).name == (name or "my features")


def test_load_config__inline_dict() -> None:
    config = load_config(
        {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}, "log": {"func": abs}}
    )
    assert config.name == "inline_config"
    assert [feature.name for feature in config.features] == ["gm", "log"]
    assert config.features[1].func is abs
    assert config.features[1].inputs == ()


def test_load_config__inline_dict_with_something_else_in_it() -> None:
    with pytest.raises(ConfigError, match=r"feature 'unit': expected a dict.*'S'"):
        load_config({"gm": {"func": "a"}, "unit": "S"})


def test_load_config__a_file_of_todays_software(shared_data: Path) -> None:
    config = load_config(shared_data / "oect_infra" / "transient_bench.yaml")
    assert config.name == "transient_bench"
    assert [feature.name for feature in config.features] == ["cycles", "peak", "decay"]
    assert config.features[0].params == {
        "n_cycles": 5,
        "method": "peak_detection",
        "min_distance": 50,
    }
    assert config.features[2].params == {"method": "exponential", "fit_range": [0.1, 0.9]}


def test_list_bundled__each_loads_and_has_its_own_name() -> None:
    names = list_bundled()
    assert names == [
        "all",
        "figures_of_merit",
        "impedance",
        "normalized",
        "stability",
        "transient_models",
        "transient_tau",
        "v2_mixed",
        "v2_ml_ready",
        "v2_quick_analysis",
        "v2_transfer_basic",
        "v2_transient_cycles",
    ]
    for name in names:
        config = load_config(name)
        assert config.name == name
        for feature in config.features:
            assert feature.description
            assert feature.unit is not None or feature.name.endswith("_coords"), feature.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature": []}, "unknown key 'feature'; did you mean 'features'"),
        (
            {"data_source": {"loadmode": "batch"}},
            "data_source: unknown key 'loadmode'; .*load_mode",
        ),
        (
            {"data_source": {"load_mode": "all"}},
            "load_mode: .*'batch' or 'step_by_step', found 'all'",
        ),
        ({"data_type": "outputs"}, "data_type: .*did you mean 'output'"),
        (
            {"features": [ONE | {"unti": "S"}]},
            "feature 'gm': unknown key 'unti'; did you mean 'unit'",
        ),
        ({"features": [ONE | {"str": 1}]}, "feature 'gm': unknown key 'str'"),
        ({"features": [ONE | {"params": [1]}]}, "feature 'gm', params: .*found a list of 1"),
        ({"features": [ONE | {"func": [7]}]}, "feature 'gm', func: .*found a list of 1"),
        ({"features": [{"extractor": "x"}]}, r"features\[0\]: 'name' is missing"),
        ({"features": [ONE | {"params": {None: 2}}]}, "feature 'gm', params, .*found None"),
        ({"features": []}, "features: .*at least 1 item"),
        ({"features": "gm"}, "features: .*list, found 'gm'"),
        ({"features": None}, "features: .*found None"),
        ({"postprocessing": [{"type": "aggregate", "target": "gm"}]}, "'normalize' or 'filter'"),
        ({"postprocessing": [{"type": "filter"}]}, r"postprocessing\[0\]: 'target' is missing"),
        ({"versioning": {"expand_multdim": 1}}, "did you mean 'expand_multidim'"),
        ({"advanced": {"parallel": {"workers": 1}}}, "advanced, parallel: .*'n_workers'"),
        ({"advanced": {"caching": {"enable": 1}}}, "advanced, caching: .*'enabled'"),
        ({"advanced": {"transform": []}}, "advanced: unknown key 'transform'.*'transforms'"),
        ({"advanced": {"transforms": [{"typ": "filter"}]}}, r"transforms\[0\]: unknown key 'typ'"),
    ],
)
def test_parse_config__mistake(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^config 'mine': .*{message}"):
        parse_config({"name": "mine", "features": [ONE], **change}, "file")


def test_parse_config__all_mistakes_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"featurs": [], "features": [{"nam": "x"}]}, "mine")
    message = str(caught.value)
    for part in ("'features'", "'nam'", "'name' is missing"):
        assert part in message


@pytest.mark.parametrize("data", [None, [], "text", 3, {}, {1: 2}, {"features": {}}])
def test_parse_config__not_a_configuration(data: Any) -> None:
    with pytest.raises(ConfigError, match=r"^config 'mine': "):
        parse_config(data, "mine")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("v2_transfer_basics", "did you mean 'v2_transfer_basic'"),
        ("features.txt", r"ends in \.yaml, \.yml or \.json"),
        ("", "known: all"),
        ("nowhere/x.yaml", "no such file"),
        ("nul\x00.yaml", "cannot be read"),
        (7, "not int"),
        ([ONE], "not list"),
    ],
)
def test_load_config__no_such_thing(source: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(source)


def test_load_config__file_with_nearly_this_name(tmp_path: Path) -> None:
    (tmp_path / "transfer.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"did you mean 'transfer\.yaml'"):
        load_config(tmp_path / "transfr.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "folder.yaml")


LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(['*' + chr(97 + k)] * 10)}]\n" for k in range(9)
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"", "expected keys such as 'features', found None"),
        ("a.yaml", b"features: [", "not valid"),
        ("a.yaml", b"\xff\xfe\x00", "not UTF-8"),
        ("a.yaml", b"a: \x01", "not valid"),
        ("a.yaml", b"#" * (MAX_BYTES + 1), "larger than 256 KiB"),
        ("a.yaml", LAUGHS.encode(), "aliases are written out"),
        ("a.yaml", b"features: &f [*f]", "contains itself"),
        ("a.yaml", b"<<: &m {<<: *m}", "contains itself"),
        ("a.yaml", b"[" * 100_000, "nested too deeply|not valid"),
        ("a.yaml", b"features: []\nfeatures: []", "line 2: key 'features' stands twice"),
        ("a.yaml", b"features: !!python/object/apply:os.system ['true']", "not valid"),
        ("a.yaml", b"{? [1, 2] : 3}", "not valid|keys are text"),
        ("a.yaml", b"--- 1\n--- 2", "not valid"),
        ("a.json", b"{", "not valid"),
        ("a.json", b"[" * 100_000, "nested too deeply"),
        ("a.json", b'{"features": 1, "features": 2}', "'features' stands twice"),
        ("a.json", b"1" * 5000, "not valid"),
    ],
)
def test_load_config__hostile_or_damaged_file(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert len(str(caught.value)) < 1000


def test_load_config__anchors_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "features:\n"
        "  - &one {name: a, extractor: x.y, input: transfer, params: {k: 1}}\n"
        "  - {<<: *one, name: b}\n"
    )
    config = load_config(path)
    assert [(f.name, f.params) for f in config.features] == [("a", {"k": 1}), ("b", {"k": 1})]


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["gm", "transfer", "normalize", "x.y"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "features",
                    "name",
                    "func",
                    "extractor",
                    "input",
                    "params",
                    "unit",
                    "advanced",
                    "transforms",
                    "type",
                    "target",
                    "postprocessing",
                    "caching",
                    "versioning",
                    "str",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JUNK)
def test_parse_config__any_data_is_read_or_refused(data: Any) -> None:
    try:
        assert isinstance(parse_config(data, "mine"), FeatureConfig)
    except ConfigError as error:
        assert str(error).startswith("config ")  # noqa: PT017


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.sampled_from("features: -[]{}&*!|>'\"\n\t #%@`,?x1~"), max_size=60))
def test_load_config__any_yaml_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    try:
        load_config(path)
    except ConfigError as error:
        assert str(path) in str(error) or "config 'a'" in str(error)  # noqa: PT017


def test_fault__a_config_with_the_name_of_a_bundled_one_must_have_as_many_features(
    tmp_path: Path,
) -> None:
    path = tmp_path / "v2_transfer_basic.yaml"
    path.write_text("features: [{name: gm, extractor: transfer.gm_max, input: transfer}]\n")
    config = load_config(path)
    assert (config.name, len(config.features)) == ("v2_transfer_basic", 1)


def test_fault__bundled_configs_are_found_only_from_the_folder_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("v2_transfer_basic").features
