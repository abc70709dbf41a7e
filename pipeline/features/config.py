"""What users write to say which features they want: YAML, JSON or a dict.

The layout is the one of existing configuration files.  Every key of it is accepted; a key that is
not part of it is an error that names the nearest one.  Which parts have an effect:

* ``features`` and ``name``, and ``postprocessing`` with ``advanced.transforms`` (more of the same);
* ``unit`` and ``description`` reach the output; ``output_shape`` matters for Python functions;
* ``data_type`` and ``data_source`` are checked, but what is read follows from the features;
* ``versioning``, ``advanced.caching`` and ``advanced.parallel`` are accepted and have no effect:
  how results are laid out, kept and computed is said where the run is started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from oectflow.config_file import read_config_file, shorten
from oectflow.errors import ConfigError, did_you_mean
from oectflow.measurement import kinds

_SUFFIXES = (".yaml", ".yml", ".json")


def _known_kind(name: str) -> str:
    if name != "both" and name not in kinds():
        hint = did_you_mean(name, [*kinds(), "both"])
        raise PydanticCustomError("kind", "no kind of measurement{hint}", {"hint": hint})
    return name


SourceOrBoth = Annotated[str, AfterValidator(_known_kind)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class DataSource(_Section):
    """Where the data come from; checked only."""

    experiment_type: SourceOrBoth = "transfer"
    load_mode: Literal["batch", "step_by_step"] = "batch"


class FeatureSpec(_Section):
    """One feature: an extractor with parameters, or a function of other features."""

    name: str
    extractor: str | None = None
    func: str | Callable[..., Any] | None = None
    input: str | list[str] | None = None
    params: dict[str, Any] | None = None
    output_shape: list[str | int] | None = None
    description: str | None = None
    unit: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs as a tuple; empty where none is given."""
        if self.input is None:
            return ()
        return (self.input,) if isinstance(self.input, str) else tuple(self.input)


class PostProcessing(_Section):
    """A normalisation or filter of one or several features."""

    type: Literal["normalize", "filter"]
    target: str | list[str]
    params: dict[str, Any] = Field(default_factory=dict)

    @property
    def targets(self) -> list[str]:
        """The targets as a list."""
        return [self.target] if isinstance(self.target, str) else self.target


class Versioning(_Section):
    """Accepted, without effect."""

    auto_create: bool = True
    expand_multidim: bool = True
    selected_features: list[str] | None = None
    version_name: str | None = None


class Caching(_Section):
    """Accepted, without effect."""

    enabled: bool = True
    backend: Literal["memory", "disk", "both"] = "memory"
    memory_size_mb: int = 512
    disk_cache_dir: str | None = ".cache"


class Parallel(_Section):
    """Accepted, without effect."""

    enabled: bool = False
    n_workers: int = 4
    backend: Literal["threading", "multiprocessing"] = "multiprocessing"


class Advanced(_Section):
    """``transforms`` run after ``postprocessing``; the rest has no effect."""

    transforms: list[PostProcessing] = Field(default_factory=list)
    caching: Caching = Field(default_factory=Caching)
    parallel: Parallel = Field(default_factory=Parallel)


class FeatureConfig(_Section):
    """A whole configuration, as written by the user."""

    version: str = "v2"
    name: str = "inline_config"
    config_version: str = "1.0"
    data_type: SourceOrBoth = "transfer"
    description: str | None = None
    data_source: DataSource = Field(default_factory=DataSource)
    features: list[FeatureSpec] = Field(min_length=1)
    postprocessing: list[PostProcessing] = Field(default_factory=list)
    versioning: Versioning = Field(default_factory=Versioning)
    advanced: Advanced | None = None

    @property
    def steps(self) -> list[PostProcessing]:
        """Everything that is done after extraction, in order."""
        return self.postprocessing + (self.advanced.transforms if self.advanced else [])


#: The model below each key, to name the keys that were possible.
_SECTIONS: dict[str, type[BaseModel]] = {
    "data_source": DataSource,
    "features": FeatureSpec,
    "postprocessing": PostProcessing,
    "versioning": Versioning,
    "advanced": Advanced,
    "transforms": PostProcessing,
    "caching": Caching,
    "parallel": Parallel,
}


def load_config(source: str | Path | Mapping[str, Any]) -> FeatureConfig:
    """Read a feature configuration.

    Parameters
    ----------
    source
        Name of a bundled configuration (:func:`list_bundled`), path of a .yaml, .yml or .json file,
        or a dict: the same layout as a file, or ``{feature name: {extractor, params, …}}``.

    Raises
    ------
    ConfigError
        It is not there, not readable, or says something that is not understood.
    """
    if isinstance(source, Mapping):
        return parse_config(_from_inline(source), "inline_config")
    if not isinstance(source, (str, Path)):
        raise ConfigError(
            f"features are given as the name of a bundled configuration, a path or a dict, "
            f"not {type(source).__name__}"
        )
    if isinstance(source, str) and source in list_bundled():
        return parse_config(_read(_bundled_folder() / f"{source}.yaml"), source)
    path = Path(source).expanduser()
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(
            f"no feature configuration {str(source)[:200]!r}: a file ends in .yaml, .yml or .json, "
            f"and no bundled one has this name{did_you_mean(str(source)[:200], list_bundled())}"
        )
    return parse_config(_read(path), path.stem)


def list_bundled() -> list[str]:
    """Return the names of the configurations that come with oectflow."""
    return sorted(
        item.name.removesuffix(".yaml")
        for item in _bundled_folder().iterdir()
        if item.name.endswith(".yaml")
    )


def _bundled_folder() -> Traversable:
    return files(__package__) / "bundled"


def _from_inline(source: Mapping[str, Any]) -> Mapping[str, Any]:
    def is_feature(value: Any) -> bool:
        return isinstance(value, Mapping) and ("extractor" in value or "func" in value)

    if "features" in source or not any(is_feature(value) for value in source.values()):
        return source
    features = []
    for name, value in source.items():
        if not is_feature(value):
            raise ConfigError(
                f"config 'inline_config', feature {name!r}: expected a dict with 'extractor' or "
                f"'func', not {shorten(value)}"
            )
        features.append({"name": name, **value})
    return {"features": features}


def parse_config(data: Any, default_name: str) -> FeatureConfig:
    """Check the content of a configuration.

    Parameters
    ----------
    data
        What the file or dict contains.
    default_name
        The configuration's name where it does not say one.

    Raises
    ------
    ConfigError
        All mistakes, each with its place.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"config {default_name!r}: expected keys such as 'features', found {shorten(data)}"
        )
    given = {key: value for key, value in data.items() if not (key == "name" and value is None)}
    name = str(given.get("name", default_name))
    try:
        return FeatureConfig(**{"name": default_name, **given})
    except TypeError:
        raise ConfigError(f"config {name!r}: keys are text, found {shorten(list(data))}") from None
    except ValidationError as error:
        found = _explain(error, data)
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        shown = "; ".join(text for _, text in found[:5])
        wrong = ConfigError(f"config {name!r}: {shown}{more}")
        wrong.mistakes = tuple(found)
        raise wrong from None


def _explain(
    error: ValidationError, data: Mapping[str, Any]
) -> list[tuple[tuple[int | str, ...], str]]:
    """Return the place of every mistake and what is wrong there."""
    mistakes: dict[str, tuple[tuple[int | str, ...], str]] = {}
    for detail in error.errors(include_url=False, include_context=False):
        *above, last = detail["loc"]
        if detail["type"] == "extra_forbidden":
            key = str(last)[:80]
            sections = [str(part) for part in above if part in _SECTIONS]
            model = _SECTIONS[sections[-1]] if sections else FeatureConfig
            text = f"unknown key {key!r}{did_you_mean(key, model.model_fields)}"
        elif detail["type"] == "missing":
            text = f"{last!r} is missing"
        else:
            # pydantic tells each alternative of a union apart; the user's key is what counts.
            above = [part for part in detail["loc"] if part not in _UNION_MEMBERS]
            text = f"{detail['msg'].lower()}, found {shorten(detail['input'])}"
        where = _place(above, data)
        text = f"{where}: {text}" if where else text
        mistakes.setdefault(where + str(last), (detail["loc"], text))
    return list(mistakes.values())


_UNION_MEMBERS = frozenset({"str", "int", "list[str]", "callable"})


def _place(location: list[int | str], data: Any) -> str:
    """Return where a mistake is, with the feature's name instead of its number."""
    words: list[str] = []
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            data = None
        if isinstance(part, int) and isinstance(data, Mapping) and "name" in data:
            words[-1:] = [f"feature {shorten(data['name'])}"]
        elif isinstance(part, int):
            words[-1:] = [f"{words[-1]}[{part}]" if words else f"[{part}]"]
        else:
            words.append(str(part)[:80])
    return ", ".join(words)


def _read(path: Path | Traversable) -> Any:
    try:
        return read_config_file(path, ConfigError)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file{_nearby(path)}") from None


def _nearby(path: Path | Traversable) -> str:
    if not isinstance(path, Path) or not path.parent.is_dir():
        return ""
    siblings = [item.name for item in path.parent.iterdir() if item.suffix in _SUFFIXES]
    return did_you_mean(path.name, siblings[:100])
