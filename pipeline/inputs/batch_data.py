"""The steps of a raw file as the object that existing notebooks get from ``get_batch_data()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]


class Told(Protocol):
    """The part of an :class:`oectflow.Experiment` that is needed."""

    def n_steps(self, source: str) -> int:
        """Return the number of steps of a kind."""

    def step_table(self, source: str) -> pd.DataFrame:
        """Return the table of steps of a kind."""

    def has_transfer_data(self) -> bool:
        """Whether there is a transfer step."""

    def has_transient_data(self) -> bool:
        """Whether there is a transient step."""

    def get_data_summary(self) -> dict[str, Any]:
        """Return what there is."""


class BatchData:
    """The transfer and transient steps of a raw file.

    Attributes
    ----------
    transfer_data, transient_data
        ``KindData``; None where there is no such step.
    """

    def __init__(self, experiment: Told) -> None:
        self._experiment = experiment
        found = {kind: KindData(experiment, kind) for kind in ("transfer", "transient")}
        self.transfer_data = found["transfer"] if experiment.has_transfer_data() else None
        self.transient_data = found["transient"] if experiment.has_transient_data() else None

    def has_transfer_data(self) -> bool:
        """Whether there is a transfer step."""
        return self.transfer_data is not None

    def has_transient_data(self) -> bool:
        """Whether there is a transient step."""
        return self.transient_data is not None

    def get_transfer_step_count(self) -> int:
        """Return the number of transfer steps."""
        return self._experiment.n_steps("transfer")

    def get_transient_step_count(self) -> int:
        """Return the number of transient steps."""
        return self._experiment.n_steps("transient")

    def get_total_step_count(self) -> int:
        """Return the number of steps of both kinds."""
        return self.get_transfer_step_count() + self.get_transient_step_count()

    def get_data_summary(self) -> dict[str, Any]:
        """Return what there is, without reading a sample."""
        return self._experiment.get_data_summary()


class KindData:
    """The steps of one kind of a raw file, read when they are asked for.

    Parameters
    ----------
    experiment
        The raw file.
    kind
        ``"transfer"`` or ``"transient"``.
    """

    def __init__(self, experiment: Told, kind: str) -> None:
        self._experiment = experiment
        self._kind = kind

    def _ask(self, what: str) -> Any:
        return getattr(self._experiment, f"get_{self._kind}_{what}")

    @property
    def step_info_table(self) -> pd.DataFrame:
        """The table of the steps."""
        return self._experiment.step_table(self._kind)

    def get_step_count(self) -> int:
        """Return the number of steps."""
        return self._experiment.n_steps(self._kind)

    def get_step_info_by_index(self, step_index: int) -> dict[str, Any]:
        """Return the row of the table of the steps.

        Raises
        ------
        IndexError
            There is no such step.
        """
        return {str(k): v for k, v in self.step_info_table.iloc[step_index].items()}

    def get_step_measurement_data(self, step_index: int) -> dict[str, Array]:
        """Return the arrays of one step.

        Raises
        ------
        IndexError
            There is no such step.
        """
        found: dict[str, Array] = self._ask("step_measurement")(step_index)
        return found

    def get_all_measurement_data(self) -> dict[str, Any]:
        """Return the arrays of all steps."""
        found: dict[str, Any] = self._ask("all_measurement")()
        return found

    def get_data_summary(self) -> dict[str, Any]:
        """Return number, shape and columns of the steps."""
        found: dict[str, Any] = self._ask("summary")()
        return found
