"""Places of results in their folder: side by side, or in a folder for each chip or device.

pyarrow, pandas, Polars and DuckDB read folders named ``chip_id=7`` as a partitioned dataset: the
column is in the name of the folder and not in its files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from oectflow.errors import ConfigError, InputError, did_you_mean
from oectflow.result_metadata import PARTITIONS, partition_key

_UNSAFE = re.compile(r'[\\/:*?"<>|\s]|^\.')
#: File systems take names of 255 bytes.
_LONGEST_NAME_BYTES = 200
#: What stands for no value.
_NOTHING = "__HIVE_DEFAULT_PARTITION__"


def result_path(
    folder: Path,
    experiment_id: str,
    identity: Mapping[str, str] | None = None,
    partition_by: str | None = None,
) -> Path:
    """Return the file for the features of an experiment.

    Parameters
    ----------
    folder
        Of the results.
    experiment_id
        Of the experiment.
    identity, partition_by
        ``identity`` has the chip and the device; ``partition_by`` names one of the two, or is None.

    Raises
    ------
    InputError
        The id of the experiment or of its chip cannot be the name of a file.
    """
    name = f"{_UNSAFE.sub('_', _short('test_id', experiment_id))}.parquet"
    if partition_by is None or identity is None:
        return folder / name
    value = quote(identity[partition_by], safe="") or _NOTHING
    return folder / f"{partition_by}={_short(partition_by, value)}" / name


def result_files(folder: Path) -> list[Path]:
    """Return the result files of a folder, partitioned or not, and others with such names."""
    parts = [path for key in PARTITIONS for path in folder.glob(f"{key}=*/[!.]*.parquet")]
    return sorted([*folder.glob("[!.]*.parquet"), *parts])


def partition_of(folder: Path) -> str | None:
    """Return the partition of the results of a folder; None if they are not partitioned."""
    for key in PARTITIONS:
        if next(folder.glob(f"{key}=*/[!.]*.parquet"), None) is not None:
            return key
    return None


def check_partition(folder: Path, partition_by: str | None) -> None:
    """Check that results may be written with this partition.

    Raises
    ------
    ConfigError
        There is no such partition, or the results in the folder have another one.
    """
    if partition_key(folder / "x") is not None:
        raise ConfigError(
            f"{folder}: is named like a part of a dataset; name the folder above, and partition_by"
        )
    if partition_by is None:
        return
    if partition_by not in PARTITIONS:
        hint = did_you_mean(str(partition_by), PARTITIONS)
        raise ConfigError(f"partition_by={partition_by!r}: expected chip_id or device_id{hint}")
    there = partition_of(folder)
    if there not in (None, partition_by):
        raise ConfigError(
            f"partition_by={partition_by!r}: the results in {folder} are partitioned by {there}; "
            "choose another output folder"
        )
    if there is None and next(folder.glob("[!.]*.parquet"), None) is not None:
        raise ConfigError(
            f"partition_by={partition_by!r}: the results in {folder} stand side by side; choose "
            "another output folder"
        )


def _short(key: str, text: str) -> str:
    """Return what becomes part of a path; InputError where a file system would not take it."""
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise InputError(
            f"{key}={text!a} is not valid text; give the experiment another one"
        ) from None
    if n_bytes > _LONGEST_NAME_BYTES:
        raise InputError(
            f"{key}={text[:40]!r}… has {n_bytes:,} bytes, expected at most "
            f"{_LONGEST_NAME_BYTES}; give the experiment a shorter one"
        )
    return text
