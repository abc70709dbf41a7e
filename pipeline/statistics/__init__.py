"""What several devices, steps or pulses say together: results in, results with intervals out."""
