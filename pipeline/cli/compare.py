"""``compare``: groups of devices, and before and after."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oectflow.errors import ConfigError
from oectflow.pipeline.cli.extract import default_out
from oectflow.pipeline.cli.marks import Results, numbers
from oectflow.pipeline.cli.output import AsJson, emit_json, say, show, table, tell
from oectflow.pipeline.cli.place import CatalogOption

if TYPE_CHECKING:
    import xarray as xr


def compare(
    feature: Annotated[str, typer.Argument(help="Name of the feature.")],
    by: Annotated[
        str | None,
        typer.Option(help="Group devices by this: chip_id, batch or any column of the samples."),
    ] = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="The same devices were measured in each group.")
    ] = False,
    before: Annotated[
        str | None,
        typer.Option(
            help="Instead of groups: the steps before a change, such as 0-4.", metavar="N,N-N"
        ),
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="The steps after that change.", metavar="N,N-N")
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            help="Take this entry along another axis, such as phase=on.", metavar="AXIS=ENTRY"
        ),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Compare logarithms: geometric means and ratios.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a picture, such as groups.pdf or groups.png."),
    ] = None,
    style: Annotated[
        str, typer.Option(help="Style of the picture: strip, box or forest.")
    ] = "strip",
    results: Results = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Compare a feature between groups of devices, with intervals, effect sizes and tests.

    Cycles of a step, steps of a device and devices of a chip are not treated as independent: the
    bootstrap resamples whole chips.  If there is only one chip, it resamples the devices.
    """
    from oectflow.pipeline.outputs.results import open_results
    from oectflow.pipeline.statistics.compare import compare as run

    selection = dict(_entry(text) for text in select or ())
    options: dict[str, Any] = {
        **selection,
        "before": numbers("--before", before),
        "after": numbers("--after", after),
    }
    opened = open_results(results or default_out(catalog))
    found = run(opened, feature, by, paired=paired, log=log, **options)
    if out is not None:
        _draw(found, out, style)
    if as_json:
        emit_json(
            {key: one.values.tolist() for key, one in {**found.coords, **found.data_vars}.items()}
            | {"attrs": found.attrs}
        )
        return
    _say(found)
    if out is not None:
        say(f"{out}: {style}")


def _say(found: xr.Dataset) -> None:
    unit, name = found.attrs["units"], "ratio" if found.attrs["log"] else "difference"
    columns = {
        "estimate": f"estimate ({unit or '1'})", "estimate_low": "low", "estimate_high": "high",
        "sd": "SD", "n_chips": "chips", "n_devices": "devices", "n_steps": "steps",
        "n_values": "values", "status": "status",
    }  # fmt: skip
    show(table(("group", *columns.values()), _rows(found, "group", columns)))
    columns = {
        name: name, f"{name}_low": "low", f"{name}_high": "high", "effect_size": "effect size",
        "p_value": "p", "p_corrected": "p corrected", "pair_status": "status",
    }  # fmt: skip
    show(table(("pair", *columns.values()), _rows(found, "pair", columns)))
    if found.attrs["left_out"]:
        tell(f"in no group: {found.attrs['left_out']}")
    for status in ("status", "pair_status"):
        meanings = dict(
            part.split(": ", 1) for part in found[status].attrs["words"].split("; ") if ": " in part
        )
        for word in dict.fromkeys(found[status].values.tolist()):
            if word != "ok":
                tell(f"{word}: {meanings.get(word, '')}")


def _rows(found: xr.Dataset, dim: str, columns: Iterable[str]) -> list[list[object]]:
    return [
        [found[dim].values[k], *(_cell(found[name].values[k].item()) for name in columns)]
        for k in range(found.sizes[dim])
    ]


def _cell(value: Any) -> object:
    return (f"{value:.4g}" if value == value else "") if isinstance(value, float) else value


def _entry(text: str) -> tuple[str, str]:
    axis, sign, entry = (part.strip() for part in text.partition("="))
    if not (axis and sign and entry):
        raise ConfigError(f"--select {text}: expected AXIS=ENTRY, such as phase=on")
    return axis, entry


def _draw(found: xr.Dataset, out: Path, style: Any) -> None:
    from oectflow.atomic_write import atomic_write
    from oectflow.errors import StorageError
    from oectflow.pipeline.outputs.plots import plot_comparison

    figure: Any = plot_comparison(found, style=style).get_figure()
    known = figure.canvas.get_supported_filetypes()
    if out.suffix.lower().lstrip(".") not in known:
        raise ConfigError(f"{out}: expected a name that ends in .{', .'.join(sorted(known))}")
    try:
        with atomic_write(out, out.suffix) as temporary:
            figure.savefig(temporary)
    except OSError as error:
        raise StorageError(f"{out}: cannot be written ({error.strerror or error})") from error
