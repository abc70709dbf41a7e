"""``import``: read one file of any instrument and show its features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from oectflow.errors import InputError
from oectflow.pipeline.cli.output import AsJson, emit_json, messages, note, say

_COLUMN = "Heading of the column with the {}, if the heading does not show it."
_SHOWN = 20


def import_file(
    file: Annotated[Path, typer.Argument(help="A CSV, Excel, instrument or raw HDF5 file.")],
    time: Annotated[str | None, typer.Option(help=_COLUMN.format("time"))] = None,
    drain_current: Annotated[
        str | None, typer.Option("--id", help=_COLUMN.format("drain current"))
    ] = None,
    gate_voltage: Annotated[
        str | None, typer.Option("--vg", help=_COLUMN.format("gate voltage"))
    ] = None,
    drain_voltage: Annotated[
        str | None, typer.Option("--vd", help=_COLUMN.format("drain voltage"))
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="transfer, output, transient or impedance.")
    ] = None,
    period: Annotated[
        float | None, typer.Option(help="Gate period in s; by default found from the data.")
    ] = None,
    features: Annotated[
        str, typer.Option("--features", "-f", help="A bundled set, or a YAML or JSON file.")
    ] = "all",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Save the data as a raw file (.h5), too.")
    ] = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw the data as FILE.png in the current folder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read one file and show its features.  You need no folder and no cluster.

    With --out, the data are saved as a raw file.  'oectflow extract' takes any number of these.
    """
    from oectflow.pipeline.inputs.find import is_hdf5
    from oectflow.pipeline.inputs.one_source import read_one
    from oectflow.pipeline.inputs.raw_format import write_measurement
    from oectflow.pipeline.quick import features as compute

    columns = {
        quantity: heading
        for quantity, heading in (
            ("time", time), ("Id", drain_current), ("Vg", gate_voltage), ("Vd", drain_voltage),
        )
        if heading is not None
    }  # fmt: skip
    options: dict[str, Any] = {"columns": columns or None, "period": period, "kind": kind}
    if out is not None and not is_hdf5(out):
        raise InputError(f"{out}: a raw file ends in .h5")
    if out is not None and out.exists():
        raise InputError(f"{out}: exists; choose another name")
    with messages.status("computing"):
        source: Path = file
        if not is_hdf5(file):
            measurement = read_one(file, **options)
            for warning in measurement.warnings:
                note(f"note: {warning}")
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                source = write_measurement(out, measurement)
                options = {}
        table = compute(source, features, **options)
    if as_json:
        emit_json({"features": table.frame.to_dict(orient="records"), "flags": list(table.flags)})
    else:
        say(table)
        if any(f"{name}_window_start" in table.results for name in table.frame["feature"].unique()):
            say("")
            say(table.fit_report())
    if plot:
        picture = Path(f"{file.stem}.png")
        figure: Any = table.plot().get_figure()
        figure.savefig(picture, dpi=150, bbox_inches="tight")
        note(f"drawn: {picture}")
    if out is not None:
        note(f"kept: {out}")


# The name of the command, which no function can have when it is defined.
import_file.__name__ = "import"
