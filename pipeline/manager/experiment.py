"""One experiment of a catalog: its data, its workflow and its features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from oectflow.pipeline.inputs.catalog import Catalog, CatalogEntry
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.manager.computed import ComputedFeatures, iso
from oectflow.pipeline.manager.measurement import Measurement

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class UnifiedExperiment(Measurement, ComputedFeatures):
    """One experiment of a catalog; :class:`UnifiedExperimentManager` returns it.

    Parameters
    ----------
    entry
        What the catalog says.
    catalog
        Where its features are recorded.
    features_root
        Folder of the results, with one folder for each configuration.
    features_v1_root
        Folder of feature files of the software in use until now.

    Attributes
    ----------
    entry
        What the catalog said when it was asked; see :class:`CatalogEntry`.
    catalog, features_root, features_v1_root
        As given.
    """

    def __init__(
        self, entry: CatalogEntry, catalog: Catalog, features_root: Path, features_v1_root: Path
    ) -> None:
        self.entry = entry
        self.catalog = catalog
        self.features_root = features_root
        self.features_v1_root = features_v1_root
        self._opened = None

    def _open(self) -> Experiment:
        return self.entry.open()

    @property
    def id(self) -> int:
        """Number in the catalog."""
        return self.entry.id

    @property
    def chip_id(self) -> str:
        """The chip."""
        return self.entry.chip_id

    @property
    def device_id(self) -> str:
        """The device on the chip."""
        return self.entry.device_id

    @property
    def test_id(self) -> str:
        """The test: two tests of one device are two experiments."""
        return self.entry.test_id

    @property
    def batch_id(self) -> str | None:
        """The batch; None where the file does not say."""
        return self.entry.batch_id

    @property
    def description(self) -> str:
        """What the operator wrote."""
        return self.entry.description

    @property
    def status(self) -> str:
        """Such as ``"completed"``; ``"unknown"`` where the file does not say."""
        return self.entry.status

    @property
    def completion_percentage(self) -> float | None:
        """From 0 to 100; None where the file does not say."""
        return self.entry.completion_percentage

    @property
    def is_completed(self) -> bool:
        """Whether the status is ``"completed"``."""
        return self.status == "completed"

    @property
    def created_at(self) -> str | None:
        """When it began, in ISO format, on the instrument's clock."""
        return iso(self.entry.created_at)

    @property
    def completed_at(self) -> str | None:
        """When it ended, in ISO format, on the instrument's clock."""
        return iso(self.entry.completed_at)

    @property
    def duration(self) -> float | None:
        """How long it took, in s: as the file says, or from its begin and end."""
        begin, end = self.entry.created_at, self.entry.completed_at
        if self.entry.duration is not None or begin is None or end is None:
            return self.entry.duration
        return (end - begin).total_seconds()

    @property
    def file_path(self) -> str | None:
        """The raw file; None where it was never known."""
        return None if self.entry.path is None else str(self.entry.path)

    @property
    def transfer_steps(self) -> int:
        """Number of transfer steps."""
        return self.entry.transfer_steps

    @property
    def transient_steps(self) -> int:
        """Number of transient steps."""
        return self.entry.transient_steps

    def get_info(self) -> dict[str, Any]:
        """Return what the catalog says, in four parts."""
        entry = self.entry
        return {
            "basic_info": {
                name: getattr(self, name)
                for name in ("id", "chip_id", "device_id", "test_id", "batch_id", "description")
            },
            "status_info": {
                name: getattr(self, name)
                for name in (
                    *("status", "completion_percentage", "is_completed"),
                    *("created_at", "completed_at", "duration"),
                )
            },
            "data_info": {
                name: getattr(entry, name)
                for name in (
                    *("has_transfer_data", "has_transient_data"),
                    *("transfer_steps", "transient_steps", "total_data_points"),
                )
            },
            "file_info": {
                "has_features": self.has_features(),
                "raw_file_size": entry.raw_file_size,
                "file_state": entry.file_state,
            },
        }

    def get_workflow_metadata(self) -> dict[str, Any]:
        """Return the parameters of the workflow by flat name: ``workflow_step_1_2_param_…``."""
        return dict(self.entry.workflow)

    def plot_transfer_evolution(self, **options: Any) -> Figure:
        """Draw all transfer sweeps; options as for :func:`oectflow.plot_transfer`."""
        from oectflow.pipeline.outputs.plots import plot_transfer

        figure = plot_transfer(self.open(), **options).get_figure(root=True)
        assert figure is not None
        return figure

    def __repr__(self) -> str:
        return (
            f"<UnifiedExperiment {self.id}: {self.test_id}, chip {self.chip_id}, "
            f"device {self.device_id}, {self.status}>"
        )
