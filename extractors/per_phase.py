"""What features of the phases of the gate have in common."""

from __future__ import annotations

from collections.abc import Mapping

from oectflow.extractors.base import COMMON_STATUSES, BaseExtractor, Variable


class PerPhase(BaseExtractor):
    """A feature with a value for both phases of every gate cycle."""

    source = "transient"

    @property
    def arrays(self) -> tuple[str, ...]:
        """The current, the recorded times, and the gate, whose edges separate the phases."""
        return ("original_time", "drain_current", "Vg")

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """One row per cycle: on, off."""
        return ("n_cycles", 2)

    @property
    def output_dims(self) -> tuple[str, ...]:
        """Cycle and phase."""
        return ("cycle", "phase")

    @property
    def output_labels(self) -> Mapping[str, tuple[str, ...]]:
        """The two phases."""
        return {"phase": ("on", "off")}

    @property
    def variables(self) -> dict[str, Variable]:
        """The value and its status, both per cycle and phase."""
        words = COMMON_STATUSES | dict(self.statuses)
        return {
            "value": self.per_phase(self.unit, self.description),
            "status": self.per_phase("", f"how to read {self.name}", "int8", words),
        }

    def per_phase(
        self,
        unit: str,
        description: str,
        dtype: str = "float64",
        statuses: Mapping[str, str] | None = None,
    ) -> Variable:
        """Return a variable with a number for every cycle and phase."""
        return Variable(
            unit,
            description,
            self.output_shape,
            self.output_dims,
            self.output_labels,
            dtype,
            statuses or {},
        )
