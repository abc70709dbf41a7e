"""Impedance spectra: real and imaginary part against frequency."""

from oectflow.measurement import Array, Kind, Value, register_kind

IMPEDANCE = register_kind(
    Kind(
        "impedance",
        "Impedance spectra",
        arrays=(
            Array("frequency", "Hz", "frequency"),
            Array("Z_real", "Ω", "real part of the impedance"),
            Array("Z_imag", "Ω", "imaginary part of the impedance, negative for a capacitor"),
            Array("Vdc", "V", "bias as measured", "bias", ("Vdc_measured",)),
        ),
        values=(
            Value("Vdc", "V", "bias", ("biasVoltage",), 1000),
            Value("amplitude", "V", "amplitude of the alternating voltage", ("amplitude",), 1000),
        ),
        x="frequency",
        y="Z_imag",
        curve_by="Vdc",
    )
)
