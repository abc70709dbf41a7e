"""What an extractor is: a class that turns one measured step into one feature.

A user writes ``source``, ``unit``, ``output_shape`` and ``extract_single_step``; everything else
has a default.  A class that defines only ``extract`` gets all steps of an experiment at once.  An
extractor never opens a file or starts a pool, and does not know about Dask.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from numbers import Real
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from oectflow.errors import ConfigError, ParameterError, UnknownExtractor, did_you_mean
from oectflow.measurement import Batch, is_kind, kinds

#: Status codes 0, 1, 2 mean the same in every feature; an extractor's own words follow.
COMMON_STATUSES: dict[str, str] = {
    "ok": "the value is the answer",
    "absent": "there is no such step, cycle or sweep direction",
    "error": "the extractor raised; the column 'problems' of this row says why",
}
#: For extractors that need the gate period.
NO_PERIOD = {"no_period": "the gate period or the sampling interval is unknown"}
OK, ABSENT, ERROR = range(3)
#: More steps than any experiment has: a block of this size holds all of them.
ALL_STEPS = 2**31


class Params(BaseModel):
    """Base class of an extractor's parameters: unknown names and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Variable:
    """One array that an extractor returns for every step.

    Attributes
    ----------
    unit
        SI unit, ``""`` for a pure number.
    description
        What the number is, in one line.
    shape
        Per step: ``()``, ``(2,)``, ``("n_cycles", 2)``; a name stands for a length that differs
        from step to step.
    dims
        A name for each axis of ``shape``, e.g. ``("cycle", "phase")``.
    labels
        Names of the entries along an axis, e.g. ``{"phase": ("on", "off")}``.
    dtype
        NumPy type of the column.
    statuses
        Of a status variable: word -> meaning.  Code ``k`` stands for the ``k``-th word.
    """

    unit: str
    description: str
    shape: tuple[int | str, ...] = ()
    dims: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dtype: str = "float64"
    statuses: Mapping[str, str] = field(default_factory=dict)


#: What an extractor returns: ``"value"``, ``"status"`` (int8 codes) and companions by name.
Columns = dict[str, NDArray[Any]]


class BaseExtractor:
    """Base class of all extractors.

    Subclasses define ``source``, ``unit`` and :meth:`extract_single_step`, and also
    :attr:`output_shape` if the result is not a single number.

    Parameters
    ----------
    params
        Parameters by name.  They are checked against :attr:`Params` if the extractor declares it.

    Raises
    ------
    ParameterError
        A parameter is unknown, or its value is impossible.
    """

    name: str = ""
    #: Kind of measurement that it needs, see :func:`oectflow.measurement.kinds`.  If it is ``""``,
    #: the ``input`` of a feature decides, or else the name of the extractor.
    source: str = ""
    #: SI unit of the value.
    unit: ClassVar[str] = ""
    #: One line for tables: what the number is.
    description: ClassVar[str] = ""
    #: In words: what exactly is computed, from which points.
    definition: ClassVar[str] = ""
    #: The same as an equation, in LaTeX without dollar signs.
    formula: ClassVar[str] = ""
    #: Where it comes from.
    reference: ClassVar[str] = ""
    #: Raise it when the numbers change.  If an extractor is not built in, its code counts, too.
    version: ClassVar[int] = 1
    #: Keys of the sample that it uses, such as ``("W", "L")``; it is given no others.  If one of
    #: them changes, the feature is computed again.
    sample_keys: ClassVar[tuple[str, ...]] = ()
    #: Parameters with types and defaults; None takes anything.
    Params: ClassVar[type[Params] | None] = None
    #: Status words in addition to the common ones: word -> meaning.
    statuses: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        whole = BaseExtractor._extract_all_steps
        alone = cls.extract_single_step is BaseExtractor.extract_single_step
        if alone and cls.extract is not BaseExtractor.extract:
            cls.extract_batch = cls.extract_batch or whole
        elif cls.extract_batch is whole:
            # Inherited from a base class that leaves the single step to its subclasses.
            cls.extract_batch = None

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        given = dict(params or {})
        if self.Params is None:
            self.params = given
            return
        known = self.Params.model_fields
        for word in given:
            if word not in known:
                raise ParameterError(
                    f"{self.name}: unknown parameter {word!r}{did_you_mean(word, known)}"
                )
        try:
            self.params = self.Params(**given).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "params"
            raise ParameterError(
                f"{self.name}: {where}={first['input']!r}: {first['msg']}"
            ) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.params})"

    @property
    def arrays(self) -> tuple[str, ...] | None:
        """Names of the arrays of a step that it uses, None for all; it is given no others.

        A run does not read arrays that none of its features uses.
        """
        return None

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Shape of the value per step: ``()``, ``(2,)``, ``("n_cycles", 2)``.

        An ``"n_steps"`` in front of it, as in ``("n_steps", 100)``, does not count.
        """
        return ()

    @property
    def step_shape(self) -> tuple[int | str, ...]:
        """:attr:`output_shape` without an ``"n_steps"`` in front."""
        shape = tuple(self.output_shape)
        return shape[1:] if shape[:1] == ("n_steps",) else shape

    @property
    def output_dims(self) -> tuple[str, ...]:
        """A name for each axis of :attr:`step_shape`; ``n_cycles`` is the axis ``cycle``."""
        return tuple(
            "cycle" if size == "n_cycles" else f"{self.name.rpartition('.')[2]}_axis{axis}"
            for axis, size in enumerate(self.step_shape)
        )

    @property
    def takes_all_steps(self) -> bool:
        """Whether a step has no value of its own: the class defines :meth:`extract` alone."""
        return type(self).extract_batch is BaseExtractor._extract_all_steps

    @property
    def output_labels(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the entries along an axis, e.g. ``{"phase": ("on", "off")}``."""
        return {}

    @property
    def variables(self) -> dict[str, Variable]:
        """Everything the extractor returns, ``"value"`` and ``"status"`` first."""
        return {
            "value": Variable(
                self.unit,
                self.description,
                self.step_shape,
                self.output_dims,
                self.output_labels,
            ),
            "status": Variable(
                "",
                f"how to read {self.name}",
                dtype="int8",
                statuses=COMMON_STATUSES | dict(self.statuses),
            ),
        }

    def extract_single_step(self, step_data: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Compute the feature of one step: all that a user has to write.

        Parameters
        ----------
        step_data
            Arrays of one step and its numbers, as :meth:`Batch.step` returns them.
        params
            The validated parameters.

        Returns
        -------
        A number or an array of :attr:`output_shape`; or a dict with ``"value"``, ``"status"`` (a
        word of :attr:`statuses` or its code) and companions.  Values must be real numbers: None,
        text, complex numbers, time spans and masked values make the step an error.

        Raises
        ------
        NotImplementedError
            The class defines neither this nor :attr:`extract_batch`.
        """
        if self.extract_batch is None or self.takes_all_steps:
            raise NotImplementedError(f"{type(self).__name__} does not define extract_single_step")
        wanted = self.arrays
        one = {
            name: value
            for name, value in step_data.items()
            if wanted is None or name in wanted or name == "sample" or _is_number(value)
        }
        columns = self.extract_batch(Batch.from_steps([one]), params)
        return {name: column[0] for name, column in columns.items()}

    #: Optional: ``extract_batch(batch, params) -> Columns`` computes many steps without a Python
    #: loop.  It must return the same bits as :meth:`extract_single_step`.  If the class does not
    #: define :meth:`extract_single_step`, a single step is a batch of one.
    extract_batch: ClassVar[Callable[..., Columns] | None] = None

    def steps_per_block(self, params: Mapping[str, Any]) -> int:
        """Return how many consecutive steps must be computed together; 1 if each is independent.

        A batch begins at a multiple of this number, and ends at a multiple or with the last step.
        What an extractor carries from step to step thus never depends on the batches.
        """
        del params
        return ALL_STEPS if self.takes_all_steps else 1

    def _extract_all_steps(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        steps = StepList(batch.step(i) for i in range(len(batch)))
        result: Any = self.extract(steps, params)
        columns = dict(result) if isinstance(result, Mapping) else {"value": result}
        columns.setdefault("status", np.full(len(batch), OK, np.int8))
        return columns

    def extract_step(self, step_data: Mapping[str, Any]) -> dict[str, Any]:
        """Compute one step and return all :attr:`variables`, the status as a code."""
        if self.takes_all_steps:
            raise NotImplementedError(
                f"{self.name} takes all steps of an experiment at once, so a single step has no "
                "value; define extract_single_step"
            )
        result = self.extract_single_step(step_data, self.params)
        columns = dict(result) if isinstance(result, Mapping) else {"value": result}
        columns.setdefault("status", OK)
        variables = self.variables
        if columns.keys() != variables.keys():
            raise ValueError(
                f"{self.name} returned {sorted(columns)}, its variables are {sorted(variables)}"
            )
        sizes: dict[str, int] = {}
        for name, variable in variables.items():
            what = self.name if name == "value" else f"{self.name}: {name!r}"
            if variable.statuses:
                columns[name] = _status_codes(columns[name], variable, what)
            else:
                columns[name] = _numbers(columns[name], variable, what)
            shape = columns[name].shape
            # A name stands for one length in all variables of a step.
            if len(shape) != len(variable.shape) or any(
                got != (sizes.setdefault(want, got) if isinstance(want, str) else want)
                for want, got in zip(variable.shape, shape, strict=True)
            ):
                own = "its output_shape" if name == "value" else "the shape declared"
                raise ValueError(f"{what} returned shape {shape}, {own} is {variable.shape}")
        return columns

    def check_batch(self, columns: Mapping[str, Any], n_steps: int) -> Columns:
        """Check what :attr:`extract_batch` returned, and return it.

        Raises
        ------
        ValueError, TypeError
            A variable is missing or undeclared, has other axes than declared, or is no array of
            numbers; or a status code has no word.
        """
        variables = self.variables
        if columns.keys() != variables.keys():
            raise ValueError(
                f"{self.name} returned {sorted(columns)}, its variables are {sorted(variables)}"
            )
        checked: Columns = {}
        for name, variable in variables.items():
            what = f"{self.name}: {name!r} of a batch"
            check = _status_codes if variable.statuses else _numbers
            checked[name] = check(columns[name], variable, what)
            shape = checked[name].shape
            if shape[:1] != (n_steps,) or len(shape) != 1 + len(variable.shape):
                raise ValueError(f"{what} has shape {shape}, expected {(n_steps, *variable.shape)}")
        return checked

    def extract(
        self, data: Iterable[Mapping[str, Any]], params: Mapping[str, Any] | None = None
    ) -> NDArray[np.float64]:
        """Compute all steps and return the values.

        A class that defines this, but not :meth:`extract_single_step`, gets all steps of an
        experiment in one task, as a ``StepList``.

        Parameters
        ----------
        data
            Steps as dicts of arrays, or a dict with such a list under the name of its kind.
        params
            Overrides of the parameters given at construction.

        Returns
        -------
        Shape (n_steps, ...), followed by :attr:`output_shape`, in :attr:`unit`.  Shorter steps are
        padded with NaN.
        """
        extractor = self if params is None else type(self)({**self.params, **params})
        steps = data[self.source] if isinstance(data, Mapping) else data
        parts = [extractor.extract_step(step) for step in steps]
        return stack_steps(extractor.variables, parts)["value"]


class StepList(list[dict[str, Any]]):
    """Steps of an experiment; indexed with a kind of measurement, it returns itself.

    It thus serves code that takes a list of steps, and code that takes them by the name of the
    kind.
    """

    def __getitem__(self, key: Any) -> Any:
        return self if isinstance(key, str) else super().__getitem__(key)


def _numbers(value: Any, variable: Variable, what: str) -> NDArray[Any]:
    """Return numbers as an array of the declared type; anything else raises an error."""
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise ValueError(f"{what} returned masked values; return NaN where there is no number")
        value = value.data
    array = np.asarray(value)
    # Text and time spans would be converted, and of complex numbers the imaginary part cut off.
    if array.dtype.kind not in "biuf":
        seen = "None" if value is None else f"{array.dtype} ({value!r:.60})"
        raise TypeError(f"{what} returned {seen}, expected real numbers; NaN where there is none")
    return array.astype(variable.dtype, copy=False)


def _status_codes(status: Any, variable: Variable, what: str) -> NDArray[np.int8]:
    """Return a word, a code or an array of codes as int8; a code without a word is an error."""
    words = variable.statuses
    if isinstance(status, str):
        if status not in words:
            raise ValueError(f"{what} returned the status {status!r}{did_you_mean(status, words)}")
        status = list(words).index(status)
    if np.ma.is_masked(status):
        raise ValueError(f"{what} returned masked status codes; 'absent' says that there is none")
    codes = np.asarray(status)
    if codes.dtype.kind not in "iu":
        raise TypeError(
            f"{what} returned {codes.dtype} ({status!r:.60}), expected a word or codes as integers"
        )
    # Before they become int8, of which 256 would be 0.
    if codes.size and not (codes.min() >= 0 and codes.max() < len(words)):
        wrong = codes[(codes < 0) | (codes >= len(words))].flat[0]
        raise ValueError(
            f"{what} returned the status code {wrong}, its words have the codes 0 to "
            f"{len(words) - 1}: {', '.join(words)}"
        )
    return codes.astype(np.int8, copy=False)


def stack_steps(variables: Mapping[str, Variable], steps: Sequence[Mapping[str, Any]]) -> Columns:
    """Stack the results of single steps, padding named axes to the longest step.

    Parameters
    ----------
    variables
        What the extractor declares.
    steps
        One dict per step, as returned by :meth:`BaseExtractor.extract_step`.

    Returns
    -------
    One array per variable; the first axis is the step.  Shorter steps are padded with NaN or the
    status ``absent``.
    """
    columns: Columns = {}
    for name, variable in variables.items():
        parts = [np.asarray(step[name], variable.dtype) for step in steps]
        shape = tuple(
            max((part.shape[axis] for part in parts), default=0) if isinstance(size, str) else size
            for axis, size in enumerate(variable.shape)
        )
        out = np.full((len(parts), *shape), missing(variable), variable.dtype)
        for i, part in enumerate(parts):
            where: tuple[int | slice, ...] = (i, *(slice(n) for n in part.shape))
            out[where] = part
        columns[name] = out
    return columns


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) or (isinstance(value, np.ndarray) and value.ndim == 0)


def missing(variable: Variable) -> Any:
    """Return the padding of a variable: ``absent`` for a status, else NaN."""
    if variable.statuses:
        return ABSENT
    return np.nan if np.issubdtype(np.dtype(variable.dtype), np.floating) else -1


_registry: dict[str, type[BaseExtractor]] = {}
_NAME = re.compile(r"[A-Za-z]\w*\.[A-Za-z]\w*")
E_ = TypeVar("E_", bound=type[BaseExtractor])


def register(name: str) -> Callable[[E_], E_]:
    """Class decorator that makes an extractor known under ``name``.

    If another class has the name, built in or not, this one replaces it, with a warning.

    Parameters
    ----------
    name
        ``"source.word"``, for example ``"transient.peak_current"``.

    Raises
    ------
    ConfigError
        The name is malformed, the class is no extractor, or its ``source`` is no kind of
        measurement.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"extractor name {name!r} is not of the form 'source.word'")

    def decorate(cls: E_) -> E_:
        if not (isinstance(cls, type) and issubclass(cls, BaseExtractor)):
            raise ConfigError(f"@register({name!r}): {cls!r} does not derive from BaseExtractor")
        if cls.source and not is_kind(cls.source):
            raise ConfigError(
                f"@register({name!r}): {cls.__name__}.source is {cls.source!r}, expected one of "
                f"{', '.join(kinds())}"
            )
        other = _registry.get(name)
        # The same class defined again (a notebook cell run twice) replaces the old one.
        if other and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            warnings.warn(
                f"@register({name!r}): {cls.__module__}.{cls.__qualname__} takes the place of "
                f"{other.__module__}.{other.__qualname__}",
                stacklevel=2,
            )
        cls.name = name
        _registry[name] = cls
        return cls

    return decorate


def _kind_in(name: str) -> str:
    """Return the kind of measurement in an extractor's name, ``""`` if it contains none."""
    if (first := name.partition(".")[0]) in kinds():
        return first
    found = [kind for kind in ("transfer", "transient") if kind in name.lower()]
    return found[0] if len(found) == 1 else ""


_entry_points_loaded = False


def _load_entry_points() -> None:
    global _entry_points_loaded
    if not _entry_points_loaded:
        _entry_points_loaded = True
        own = {n: cls for n, cls in _registry.items() if not cls.__module__.startswith("oectflow.")}
        for point in entry_points(group="oectflow.extractors"):
            point.load()
        # What somebody has registered here is newer than what is installed.
        _registry.update(own)


def extractor_names() -> list[str]:
    """Return the names of all extractors, built in, installed or registered here."""
    _load_entry_points()
    return sorted(_registry)


def get_extractor(
    name: str, params: Mapping[str, Any] | None = None, source: str = ""
) -> BaseExtractor:
    """Return the extractor registered as ``name``, with its parameters checked.

    Parameters
    ----------
    name, params
        Name and parameters of the extractor.
    source
        Kind of measurement, for a class that does not declare one; by default, the name decides.

    Raises
    ------
    UnknownExtractor
        There is no such name; the message suggests the nearest one.
    ParameterError
        A parameter is unknown or impossible.
    """
    if name not in _registry:
        _load_entry_points()
    if name not in _registry:
        raise UnknownExtractor(f"unknown extractor {name!r}{did_you_mean(name, _registry)}")
    extractor = _registry[name](params)
    if not extractor.source:
        extractor.source = source or _kind_in(name)
    return extractor
