"""Feature sets as configuration files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from oectflow.atomic_write import atomic_write
from oectflow.errors import ConfigError
from oectflow.pipeline.features.config import load_config
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.features.lambdas import function_text


def as_text(features: FeatureList) -> dict[str, Any]:
    """Return a feature set as a configuration, with text for every Python function.

    Raises
    ------
    ConfigError
        A Python function has no text that a file could hold.
    """
    config = features.to_config()
    for entry in config["features"]:
        if callable(entry.get("func")):
            try:
                entry["func"] = function_text(entry["func"])
            except ConfigError as error:
                raise ConfigError(
                    f"config {features.name!r}, feature {entry['name']!r}: {error}"
                ) from None
    return config


def appended(path: Path, content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Add features to those of a configuration file.

    Parameters
    ----------
    path
        The file; what it says under ``postprocessing`` becomes features.
    content
        A configuration, whose features replace those of the same name.

    Returns
    -------
    The new content, its minor version greater by one; and which features were new or changed.

    Raises
    ------
    ConfigError
        The file is no configuration.
    """
    earlier = FeatureList.load(path).to_config()
    known = {entry["name"]: entry for entry in earlier["features"]}
    now = {entry["name"]: entry for entry in content["features"]}
    version = load_config(path).config_version
    match = re.fullmatch(r"(\d+)\.(\d+)", version)
    content = {"description": earlier.get("description", "")} | content
    content["config_version"] = f"{match[1]}.{int(match[2]) + 1}" if match else f"{version}.1"
    content["features"] = list((known | now).values())
    if earlier["data_type"] != content["data_type"]:
        content["data_type"] = "both"
    return content, [name for name, entry in now.items() if known.get(name) != entry]


def write_config(path: Path, content: Mapping[str, Any]) -> None:
    """Write a configuration file, whole or not at all.

    Raises
    ------
    ConfigError
        It cannot be written.
    """
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
