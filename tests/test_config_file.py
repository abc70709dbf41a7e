"""Hostile configuration files: refused by every reader, soon, in little memory, with no effect."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oectflow.cluster.connect import connect
from oectflow.config_file import MAX_BYTES, MAX_NODES, read_config_file, shorten
from oectflow.errors import (
    CatalogError,
    ClusterError,
    ConfigError,
    ExpressionError,
    OectflowError,
)
from oectflow.pipeline.features.config import load_config
from oectflow.pipeline.features.expressions import Expression
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.catalog import CatalogConfig, load_catalog_config

Reader = tuple[Callable[[Path], object], type[OectflowError]]
READERS: dict[str, Reader] = {
    "features": (load_config, ConfigError),
    "catalog": (load_catalog_config, CatalogError),
    "cluster": (connect, ClusterError),
}


def bomb(first: str, link: Callable[[str, str], str], n: int = 9) -> str:
    """Every level refers ten times to the one before: 10**n values in some hundred bytes."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{k}: &a{k} " + link(f"*a{k - 1}", f"a{k}") for k in range(1, n + 1)]
    return "\n".join(lines)


HOSTILE: dict[str, tuple[str, str]] = {
    "lists": (bomb("[1]", lambda a, _: f"[{','.join([a] * 10)}]"), "aliases are written out"),
    "mappings": (
        bomb("{k: 1}", lambda a, _: "{" + ", ".join(f"k{j}: {a}" for j in range(10)) + "}"),
        "aliases are written out",
    ),
    "merges": (
        bomb("{k: 1}", lambda a, _: "{<<: [" + ", ".join([a] * 10) + "]}"),
        "aliases are written out",
    ),
    "keys": (bomb("[1]", lambda a, _: f"{{? [{','.join([a] * 10)}] : 1}}"), "written out"),
    "alias of itself": ("kind: &k [*k]", "contains itself"),
    "deep mappings": ("{a: " * 60_000, "nested too deeply"),
    "deep lists": ("- " * 120_000, "nested too deeply"),
    "10 MB": ("a: " + "x" * 10_000_000, "larger than 256 KiB"),
    "10 MB of comment": ("#" * 10_000_000, "larger than 256 KiB"),
    "python object": ("kind: !!python/object/apply:os.system ['true']", "not valid"),
    "python name": ("kind: !!python/name:os.system", "not valid"),
    "python module": ("kind: !!python/module:os", "not valid"),
    "long number": ("kind: " + "9" * 10_000, "not valid"),
    "no date": ("kind: 2001-99-99", "not valid"),
    "key twice": ("kind: a\nkind: b", "line 2: key 'kind' stands twice"),
    "two documents": ("--- a\n--- b", "not valid"),
    "control character": ("kind: \x00", "not valid"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_read__refused(tmp_path: Path, name: str, reader: str) -> None:
    text, message = HOSTILE[name]
    path = tmp_path / "a.yaml"
    path.write_text(text)
    read, kind = READERS[reader]
    tracemalloc.start()
    try:
        with pytest.raises(kind, match=message) as caught:
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1000
    # A node takes about 1 kB (itself and where it begins and ends).
    assert peak < MAX_NODES * 1000


@pytest.mark.parametrize("reader", READERS)
def test_read__values_too_large_for_a_message(tmp_path: Path, reader: str) -> None:
    read, kind = READERS[reader]
    path = tmp_path / "a.yaml"
    long = "x" * 200_000
    for text in (
        long,
        "".join(f"unknown{i}: 1\n" for i in range(2000)),
        f"roots: {long}\nfeatures: {long}\ndiscovery: {{max_depth: {long}}}",
        f"? {long[:100_000]}\n: 1",
        f"kind: {long}",
    ):
        path.write_text(text)
        with pytest.raises(kind) as caught:
            read(path)
        assert len(str(caught.value)) < 2000


def test_read__largest_file_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1 #".ljust(MAX_BYTES, "x"))
    assert read_config_file(path, ConfigError) == {"a": 1}
    path.write_text("a: 1 #".ljust(MAX_BYTES + 1, "x"))
    with pytest.raises(ConfigError, match="larger than"):
        read_config_file(path, ConfigError)


def test_read__no_such_file_is_left_to_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_config_file(tmp_path / "a.yaml", ConfigError)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config_file(tmp_path, ConfigError)


def test_shorten() -> None:
    for value in (10**5000, "x" * 10**6, [0] * 10**6, dict.fromkeys(range(10**5)), b"x" * 10**6):
        assert len(shorten(value)) < 300


# Anchors, aliases, merges and tags in all positions.
LEAVES = st.sampled_from(
    [
        "1",
        "x",
        "*a",
        "*b",
        "~",
        "''",
        "!!python/name:os.system",
        "!!set {a}",
        "0x1f",
        "1e999",
        "${X",
    ]
)
YAML = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
        st.tuples(st.sampled_from("ab"), inner).map(lambda pair: f"&{pair[0]} {pair[1]}"),
        st.dictionaries(
            st.sampled_from(
                ["<<", "roots", "raw_data", "discovery", "max_depth", "kind", "a", "?"]
            ),
            inner,
            max_size=4,
        ).map(lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"),
    ),
    max_leaves=20,
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(YAML | st.text(max_size=60))
def test_read__any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        assert isinstance(load_catalog_config(path), CatalogConfig)
    except CatalogError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017
    try:
        read_config_file(path, ConfigError)
    except ConfigError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017


def test_catalog_config__any_content_is_read_or_refused() -> None:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*CatalogConfig.model_fields, "path", "raw", "max_depth", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=10,
    )

    @settings(max_examples=300, deadline=None)
    @given(st.dictionaries(st.sampled_from([*CatalogConfig.model_fields, "x"]), values, max_size=3))
    def check(content: dict[str, Any]) -> None:
        try:
            assert isinstance(load_catalog_config(content), CatalogConfig)
        except CatalogError as error:
            assert str(error).startswith("catalog configuration: ")  # noqa: PT017

    check()


# Ways out of an expression, nested in each other.
ATTRIBUTES = (
    *("__class__", "__bases__", "__subclasses__()", "__globals__", "__reduce_ex__(2)"),
    *("system('true')", "tofile('x')", "f_globals", "data", "mean()"),
)
ATTACKS = st.recursive(
    st.sampled_from(
        [
            "gm",
            "9**9**9",
            "__import__('os')",
            "().__class__",
            "gm.__class__",
            "eval",
            "__builtins__",
        ]
    ),
    lambda inner: st.one_of(
        st.builds(
            "({}).{}".format,
            inner,
            st.sampled_from(ATTRIBUTES),
        ),
        st.builds("({})**({})".format, inner, inner),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("getattr({}, '__class__')".format, inner),
        st.builds("(lambda: {})()".format, inner),
        st.builds("np.power({}, {})".format, inner, inner),
        st.builds("[{} for _ in gm]".format, inner),
        st.builds("f'{{{}}}'".format, inner),
    ),
    max_leaves=6,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ATTACKS)
def test_features__func_of_a_file_cannot_get_out(tmp_path: Path, attack: str) -> None:
    path = tmp_path / "a.yaml"
    features = [
        {"name": "gm", "extractor": "transfer.gm_max", "input": "transfer"},
        {"name": "attack", "func": attack, "input": "gm"},
    ]
    path.write_text(yaml.safe_dump({"features": features}))
    before = set(sys.modules)
    try:
        FeatureList.load(path)
    except ConfigError as error:
        assert len(str(error)) < 1000  # noqa: PT017
        return
    # What is let in has no name that begins with two underscores, and is arithmetic.
    assert "__" not in attack
    assert "system" not in attack
    try:
        result = Expression.parse(attack, ("gm",)).evaluate([np.array([1.0, 2.0])])
    except ExpressionError:
        return
    assert result.shape[0] == 2
    assert set(sys.modules) == before
