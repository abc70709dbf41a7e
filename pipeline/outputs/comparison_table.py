"""The table of a paper: mean, standard deviation and number of devices of each group."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oectflow.atomic_write import atomic_write
from oectflow.cells import plain_cell
from oectflow.errors import OutputError, StorageError, did_you_mean
from oectflow.extras import extra
from oectflow.local_path import local_path
from oectflow.pipeline.outputs.plots.axes import superscript, with_prefix
from oectflow.pipeline.statistics.compare import compare

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_ENDS = (".csv", ".tex", ".xlsx")
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "µ": r"\textmu{}", "Ω": r"$\Omega$", "²": r"$^2$", "³": r"$^3$", "−": r"$-$", "τ": r"$\tau$",
}  # fmt: skip
_TO_TEX = re.compile("|".join(map(re.escape, _SPECIAL)))


def comparison_table(
    results: xr.Dataset,
    features: str | Iterable[str] | Mapping[str, Mapping[str, Any]],
    by: str,
    out: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Return mean, standard deviation between devices, and number of devices, by group.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it.
    features
        Names of variables; or a mapping from each name to the entries along its other axes:
        ``{"tau": {"phase": "on"}}``.
    by
        Column that defines the groups, as in :func:`oectflow.compare`.
    out
        File to write the table to: ``.tex`` (a booktabs table, numbers with SI prefixes), ``.csv``
        or ``.xlsx`` (plain numbers).

    Returns
    -------
    A row per feature: ``feature``, ``unit``, and for each group ``mean``, ``SD``, ``n`` (devices)
    and ``chips``.  The columns have two levels; the group is the first.

    Raises
    ------
    OutputError
        As for :func:`oectflow.compare`, or the file name has another ending.
    OectflowError
        The file is an Excel file, and openpyxl is not installed.
    StorageError
        The file cannot be written; an existing file is unchanged.
    """
    import pandas as pd

    target = None if out is None else _target(out)
    if isinstance(features, str):
        features = [features]
    wanted = features if isinstance(features, Mapping) else {name: {} for name in features}
    rows: list[dict[tuple[str, str], Any]] = []
    for name, selection in wanted.items():
        # Of a mean and a standard deviation nothing is drawn.
        found = compare(results, name, by, n_draws=100, **selection)
        row: dict[tuple[str, str], Any] = {
            ("", "feature"): found.attrs["label"],
            ("", "unit"): found.attrs["units"],
        }
        for k, group in enumerate(found["group"].values.tolist()):
            for column, key in (
                ("mean", "estimate"), ("SD", "sd"), ("n", "n_devices"), ("chips", "n_chips"),
            ):  # fmt: skip
                row[(group, column)] = found[key].values[k].item()
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    frame = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(columns))
    if target is not None:
        _write(frame, target)
    return frame


def _target(out: str | os.PathLike[str]) -> Path:
    target = local_path(out, StorageError)
    if target.suffix.lower() not in _ENDS:
        hint = did_you_mean(target.suffix, _ENDS)
        raise OutputError(f"{target}: expected a name that ends in .csv, .tex or .xlsx{hint}")
    if target.suffix.lower() == ".xlsx":
        with extra("excel", "XLSX"):
            import openpyxl  # noqa: F401
    return target


def _write(frame: pd.DataFrame, target: Path) -> None:
    import pandas as pd

    plain = frame.map(plain_cell)
    heads: list[Any] = frame.columns.to_list()
    plain.columns = pd.Index([plain_cell(f"{group} {name}".strip()) for group, name in heads])
    kind = target.suffix.lower()
    try:
        with atomic_write(target, target.suffix.lower()) as temporary:
            if kind == ".csv":
                # With a mark, since Excel would take µ and Ω for something else.
                plain.to_csv(temporary, index=False, encoding="utf-8-sig")
            elif kind == ".xlsx":
                plain.to_excel(temporary, engine="openpyxl", index=False, sheet_name="comparison")
            else:
                temporary.write_text(as_latex(frame), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error


def as_latex(frame: pd.DataFrame) -> str:
    """Return the table as LaTeX with the rules of booktabs: mean ± SD and number of devices."""
    heads: list[Any] = frame.columns.to_list()
    groups = list(dict.fromkeys(group for group, _ in heads if group))
    lines = [
        rf"\begin{{tabular}}{{l{'l' * len(groups)}}}",
        r"\toprule",
        " & ".join(["", *map(_tex, groups)]) + r" \\",
        r"\midrule",
    ]
    rows: list[Any] = frame.to_dict("records")
    for row in rows:
        means = [row[(group, "mean")] for group in groups]
        largest = max((abs(mean) for mean in means if np.isfinite(mean)), default=0.0)
        factor, unit = with_prefix(largest, row[("", "unit")])
        label = f"{row[('', 'feature')]} ({unit})" if unit else row[("", "feature")]
        cells = [_cell(row, group, factor) for group in groups]
        lines.append(" & ".join([_tex(label), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _cell(row: Mapping[tuple[str, str], Any], group: str, factor: float) -> str:
    mean, sd = row[(group, "mean")] / factor, row[(group, "SD")] / factor
    if not np.isfinite(mean):
        return "--"
    # A standard deviation has two digits, and the mean as many decimals.
    size = sd if np.isfinite(sd) and sd > 0 else abs(mean) / 10
    places = max(0, 1 - int(np.floor(np.log10(size)))) if size > 0 else 2
    spread = rf" \pm {sd:.{places}f}" if np.isfinite(sd) else ""
    return rf"${mean:.{places}f}{spread}$ ($n = {row[(group, 'n')]}$)"


def _tex(text: str) -> str:
    return _TO_TEX.sub(lambda found: _SPECIAL[found[0]], superscript(str(text)))
