"""Write measurements in memory (arrays, DataFrames, xarray) as a raw file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from oectflow.config_file import shorten
from oectflow.errors import InputError, did_you_mean
from oectflow.measurement import Measurement, Step, kinds
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.find import Experiments
from oectflow.pipeline.inputs.python_steps import steps_from
from oectflow.pipeline.inputs.raw_format import write_measurement
from oectflow.pipeline.inputs.readers.sense import sensible
from oectflow.pipeline.inputs.samples import read_samples
from oectflow.place import place


def write_experiment(
    path: str | os.PathLike[str],
    data: Any = None,
    *,
    sample: Any = None,
    overwrite: bool = False,
    **contents: Any,
) -> Path:
    """Write measurements in memory as one raw file, for :func:`oectflow.extract`.

    Parameters
    ----------
    path
        The HDF5 file; its folder is made if missing.
    data
        All contents in one object: an xarray DataTree as :meth:`oectflow.Experiment.to_xarray`
        returns it, or a mapping with the keywords of ``contents``.
    sample
        Geometry and materials of the device, as :func:`oectflow.read_samples` takes them.
    overwrite
        Replace an existing file.
    **contents
        A keyword with the name of a kind of measurement (``transfer``, ``output``, ``transient``,
        ``impedance``) gives one step or a list of steps.  A step is a dict of arrays, a pandas
        DataFrame, an xarray Dataset (with a dimension ``step``, several steps), or a pair of one of
        these and a dict of numbers such as ``{"Vd": -0.6}``.  The numbers may also be among the
        arrays.  Use the names of the kind (``Vg``, ``Id``, ``Ig``, ``Vd``, ``time``, ``frequency``,
        …) or names that instruments write.  Put units into the names (``"Id (mA)"``) or into the
        attribute ``units`` of an xarray variable; without a unit, numbers are in SI.  A column that
        the kind does not define is kept, with a warning.  Every other keyword is an attribute of
        the experiment: ``test_id`` (by default the name of the file), ``chip_id``,
        ``device_number``, ``description``, ``created_at``, …

    Returns
    -------
    The path.

    Raises
    ------
    InputError
        Something is missing, not a number, or of another length; the message names the step:
        ``transfer[2]``.
    ConfigError
        The sample is wrong.

    Examples
    --------
    >>> import numpy as np, oectflow as of
    >>> Vg = np.linspace(0.2, -0.8, 101)
    >>> path = of.write_experiment(
    ...     "raw/a1.h5",
    ...     transfer=[{"Vg": Vg, "Id (mA)": 2 * Vg**2, "Vd": -0.6}],
    ...     sample={"W (µm)": 100, "L (µm)": 10, "d (nm)": 50},
    ...     chip_id="A", device_number=1,
    ... )
    """
    target = place(path, InputError)
    if target.exists() and not overwrite:
        raise InputError(f"{target}: exists; give overwrite=True to replace it")
    measurement = as_measurement(data, sample=sample, test_id=target.stem, **contents)
    for warning in measurement.warnings:
        warnings.warn(warning, stacklevel=2)
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_measurement(target, measurement)


def as_measurement(data: Any, *, sample: Any, test_id: str, **contents: Any) -> Measurement:
    """Return the measurement that :func:`write_experiment` would write, with the same errors.

    Parameters
    ----------
    data, sample, **contents
        As there.
    test_id
        Test id to use if the data have none.
    """
    given = _unpacked(data) | contents
    if sample is None:
        sample = given.pop("sample", None)
    in_kinds = {name: given.pop(name) for name in kinds() if given.get(name) is not None}
    attributes = {"test_id": test_id} | _attributes(given)
    steps: list[Step] = []
    said: list[str] = []
    for kind in kinds().values():
        entries = in_kinds.get(kind.name, [])
        entries = entries if isinstance(entries, list) else [entries]
        for number, entry in enumerate(entries):
            where = f"{kind.name}[{number}]"
            for step, warned in steps_from(kind, entry, where):
                steps.append(step)
                said += [f"{where}: {text}" for text in warned]
    if not steps:
        raise InputError(f"no steps; give some as {', '.join(f'{name}=[...]' for name in kinds())}")
    known: Mapping[str, Any] = {}
    if sample is not None:
        chip, device = attributes.get("chip_id", ""), attributes.get("device_number", "")
        known = read_samples(sample).of(chip, device)
    said = list(dict.fromkeys(said))
    return sensible(Measurement(attributes, steps, known, warnings=tuple(said)))


@contextmanager
def on_disk(experiments: Any, folder: Path | None) -> Iterator[Experiments]:
    """Give raw files for data in memory, as long as the context lasts; paths are not changed.

    Parameters
    ----------
    experiments
        As for :func:`~oectflow.pipeline.inputs.find.find_experiments`, or objects that
        :func:`write_experiment` takes as ``data``.
    folder
        Folder for the files, which are put into a separate hidden folder in it.  All workers must
        see it.  None: the usual folder for temporary files.

    Raises
    ------
    InputError
        An object is not a measurement; the message names what is missing.
    """
    items = [experiments] if _is_object(experiments) else experiments
    if isinstance(items, str | os.PathLike | Experiment):
        yield items
        return
    items = list(items)
    if not any(map(_is_object, items)):
        yield items
        return
    with TemporaryDirectory(prefix=".oectflow-memory-", dir=folder) as temporary:
        found = []
        for number, item in enumerate(items):
            if _is_object(item):
                name = f"memory_{number}" if len(items) > 1 else "memory"
                measurement = as_measurement(item, sample=None, test_id=name)
                for warning in measurement.warnings:
                    warnings.warn(warning, stacklevel=2)
                # Numbered: two of one test id are two files, and the run says so.
                item = write_measurement(Path(temporary) / f"{number}.h5", measurement)
            found.append(item)
        yield found


def _is_object(item: Any) -> bool:
    """Whether something is data rather than where data are."""
    is_table = hasattr(item, "iloc") or hasattr(item, "data_vars") or hasattr(item, "dtype")
    return isinstance(item, Mapping) or _is_tree(item) or is_table


def _is_tree(data: Any) -> bool:
    return hasattr(data, "children") and hasattr(data, "to_dataset")


def _unpacked(data: Any) -> dict[str, Any]:
    if data is None:
        return {}
    is_mapping = isinstance(data, Mapping) and not hasattr(data, "data_vars")
    if not is_mapping and not _is_tree(data):
        raise InputError(
            f"a {type(data).__name__} does not say what was measured; give it by its kind, such as "
            "{'transfer': ...}, or to oectflow.features, which finds out by its columns"
        )
    if not _is_tree(data):
        return dict(data)
    children = {name: node.to_dataset() for name, node in data.children.items()}
    if data.data_vars:
        raise InputError(
            f"the root of the tree has {next(iter(data.data_vars))!r}; arrays belong into a node "
            f"for their kind: {', '.join(kinds())}"
        )
    for name in children:
        if name not in kinds():
            raise InputError(f"the tree has a node {name!r}{did_you_mean(name, kinds())}")
    attrs = dict(data.attrs)
    keys = [k for k in attrs if str(k).startswith("sample_") and k != "sample_type"]
    sample = {k.removeprefix("sample_"): attrs.pop(k) for k in keys}
    # The writer of a raw file has put it there, and puts it there again.
    attrs.pop("format_version", None)
    named = {"test_id": data.name} if data.name else {}
    return named | attrs | children | ({"sample": sample} if sample else {})


def _attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, list | tuple | Mapping) or hasattr(value, "columns"):
            raise InputError(
                f"{name}={shorten(value)}: attributes are text and numbers; as a kind of "
                f"measurement it is unknown{did_you_mean(name, kinds())}"
            )
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, date):
            value = value.isoformat()
        if value is None:
            continue
        if not isinstance(value, str | int | float):
            raise InputError(f"{name}={value!r}: attributes are text and numbers")
        found["device_number" if name == "device_id" else name] = value
    return found
