"""Output curves: drain current against drain voltage, one step for each gate voltage."""

from oectflow.measurement import Array, Kind, Value, errors_of_currents, register_kind

OUTPUT = register_kind(
    Kind(
        "output",
        "Output curves",
        arrays=(
            Array("Vd", "V", "drain voltage", aliases=("drain_voltage",)),
            Array("Id", "A", "drain current", aliases=("drain_current",)),
            Array("Ig", "A", "gate current", "gate_current"),
            Array("Vg", "V", "gate voltage as measured", "gate_voltage", ("Vg_measured",)),
            Array("time", "s", "time as recorded", "time"),
            *errors_of_currents(),
        ),
        values=(Value("Vg", "V", "gate voltage", ("gateVoltage",), 1000),),
        x="Vd",
        y="Id",
        curve_by="Vg",
    )
)
