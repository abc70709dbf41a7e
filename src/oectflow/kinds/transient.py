"""Transients: drain current against time while the gate is switched."""

from oectflow.measurement import Array, Kind, Value, errors_of_currents, register_kind

TRANSIENT = register_kind(
    Kind(
        "transient",
        "Transients",
        arrays=(
            Array("continuous_time", "s", "time from the declared interval, through all steps"),
            Array("original_time", "s", "time as recorded", aliases=("time",)),
            Array("drain_current", "A", "drain current", aliases=("Id",)),
            Array("Vg", "V", "gate voltage", "gate_voltage", ("gate_voltage",)),
            Array("Ig", "A", "gate current", "gate_current"),
            Array("Vd", "V", "drain voltage as measured", "drain_voltage", ("Vd_measured",)),
            *errors_of_currents(),
        ),
        values=(
            Value(
                "sampling_interval",
                "s",
                "time between two samples of the transient",
                ("timeStep",),
                1000,
                column="sampling_interval",
            ),
            Value("gate_period", "s", "duration of one gate cycle", column="gate_period"),
            Value(
                "duty_cycle",
                "",
                "share of the gate period in which the gate is high",
                column="duty_cycle",
            ),
            Value("Vd", "V", "drain voltage", ("drainVoltage",), 1000),
            Value("Vg_low", "V", "lower gate voltage", ("gateVoltageBottom",), 1000),
            Value("Vg_high", "V", "upper gate voltage", ("gateVoltageTop",), 1000),
        ),
        sample="sample",
        layout="traces",
        gated=True,
        x="original_time",
        y="drain_current",
    )
)
