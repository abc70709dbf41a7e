"""Transfer sweeps: drain current against gate voltage."""

from oectflow.measurement import Array, Kind, Value, errors_of_currents, register_kind

TRANSFER = register_kind(
    Kind(
        "transfer",
        "Transfer curves",
        arrays=(
            Array("Vg", "V", "gate voltage", aliases=("gate_voltage",)),
            Array("Id", "A", "drain current", aliases=("drain_current",)),
            Array("Ig", "A", "gate current", "gate_current"),
            Array("Vd", "V", "drain voltage as measured", "drain_voltage", ("Vd_measured",)),
            Array("time", "s", "time as recorded", "time"),
            *errors_of_currents(),
        ),
        values=(
            Value("Vd", "V", "drain voltage", ("drainVoltage",), 1000),
            # Steps in mV, each after a time in ms.
            Value(
                "sweep_rate",
                "V/s",
                "how fast the gate voltage changes",
                ("gateVoltageStep",),
                per="timeStep",
            ),
        ),
        x="Vg",
        y="Id",
        curve_by="Vd",
    )
)
