"""One experiment of a catalog: its data, its workflow and its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oectflow.pipeline.inputs.catalog import Catalog, CatalogEntry
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.manager.computed import ComputedFeatures, iso
from oectflow.pipeline.manager.forward import forwarded
from oectflow.pipeline.manager.pictures import Pictures


class UnifiedExperiment:
    """One experiment of a catalog; :class:`UnifiedExperimentManager` returns it.

    :attr:`data` is the content of the file, :attr:`features` are the computed features, and
    :attr:`pictures` draws both.  The method names of existing notebooks still work.

    Parameters
    ----------
    entry
        The entry in the catalog.
    catalog
        The catalog that records its features.
    features_root
        Folder of the results, with one folder for each configuration.
    features_v1_root
        Folder of feature files of the earlier software.

    Attributes
    ----------
    entry
        The entry in the catalog, as it was when it was read; see :class:`CatalogEntry`.
    features
        Its ``ComputedFeatures``.
    pictures
        Its ``Pictures``.
    """

    def __init__(
        self, entry: CatalogEntry, catalog: Catalog, features_root: Path, features_v1_root: Path
    ) -> None:
        self.entry = entry
        self.features = ComputedFeatures(entry, catalog, features_root, features_v1_root)
        self.pictures = Pictures(self.open, self.features)
        self._opened: Experiment | None = None

    @property
    def data(self) -> Experiment:
        """The raw file, opened again if it has changed.

        Raises
        ------
        InputError
            It cannot be read.
        """
        opened = self._opened
        if opened is None or not opened.identity.is_of(opened.path):
            opened = self._opened = self.entry.open()
        return opened

    def open(self) -> Experiment:
        """Return :attr:`data`."""
        return self.data

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
        """The batch; None if the file does not name it."""
        return self.entry.batch_id

    @property
    def description(self) -> str:
        """The description that the operator wrote."""
        return self.entry.description

    @property
    def status(self) -> str:
        """State such as ``"completed"``; ``"unknown"`` if the file does not say."""
        return self.entry.status

    @property
    def completion_percentage(self) -> float | None:
        """From 0 to 100; None if the file does not say."""
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
        """Duration in s: from the file, or else from begin and end."""
        begin, end = self.entry.created_at, self.entry.completed_at
        if self.entry.duration is not None or begin is None or end is None:
            return self.entry.duration
        return (end - begin).total_seconds()

    @property
    def file_path(self) -> str | None:
        """The raw file; None if it was never known."""
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
        """Return the entry of the catalog, in four parts."""
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

    def get_plotter_experiment_info(self) -> dict[str, Any]:
        """Return chip, device, status and numbers of steps."""
        return {
            "chip_id": self.chip_id,
            "device_number": self.device_id,
            "status": self.status,
            "transfer_steps": self.transfer_steps,
            "transient_steps": self.transient_steps,
        }

    get_transfer_data = forwarded("data", Experiment.get_transfer_data)
    get_transient_data = forwarded("data", Experiment.get_transient_data)
    get_transfer_step_measurement = forwarded("data", Experiment.get_transfer_step_measurement)
    get_transient_step_measurement = forwarded("data", Experiment.get_transient_step_measurement)
    get_transfer_all_measurement = forwarded("data", Experiment.get_transfer_all_measurement)
    get_transient_all_measurement = forwarded("data", Experiment.get_transient_all_measurement)
    get_transfer_step_info_table = forwarded("data", Experiment.get_transfer_step_info_table)
    get_transient_step_info_table = forwarded("data", Experiment.get_transient_step_info_table)
    get_transfer_summary = forwarded("data", Experiment.get_transfer_summary)
    get_transient_summary = forwarded("data", Experiment.get_transient_summary)
    get_data_summary = forwarded("data", Experiment.get_data_summary)
    get_experiment_summary = forwarded("data", Experiment.get_experiment_summary)
    get_attributes = forwarded("data", Experiment.get_attributes)
    get_test_info = forwarded("data", Experiment.get_test_info)
    get_batch_data = forwarded("data", Experiment.get_batch_data)
    has_transfer_data = forwarded("data", Experiment.has_transfer_data)
    has_transient_data = forwarded("data", Experiment.has_transient_data)
    has_workflow = forwarded("data", Experiment.has_workflow)
    get_workflow = forwarded("data", Experiment.get_workflow)
    get_workflow_summary = forwarded("data", Experiment.get_workflow_summary)
    print_workflow = forwarded("data", Experiment.print_workflow)
    export_workflow_json = forwarded("data", Experiment.export_workflow_json)
    export_workflow = forwarded("data", Experiment.export_workflow)

    has_features = forwarded("features", ComputedFeatures.has_features)
    has_v2_features = forwarded("features", ComputedFeatures.has_v2_features)
    get_v2_features_metadata = forwarded("features", ComputedFeatures.get_v2_features_metadata)
    clear_v2_features_metadata = forwarded("features", ComputedFeatures.clear_v2_features_metadata)
    sync_v2_features_from_filesystem = forwarded(
        "features", ComputedFeatures.sync_v2_features_from_filesystem
    )
    extract_features_v2 = forwarded("features", ComputedFeatures.extract_features_v2)
    get_v2_feature_dataframe = forwarded("features", ComputedFeatures.get_v2_feature_dataframe)
    get_features = forwarded("features", ComputedFeatures.get_features)
    get_feature_dataframe = forwarded("features", ComputedFeatures.get_feature_dataframe)
    get_feature_matrix = forwarded("features", ComputedFeatures.get_feature_matrix)

    plot_transfer_single = forwarded("pictures", Pictures.plot_transfer_single)
    plot_transfer_multiple = forwarded("pictures", Pictures.plot_transfer_multiple)
    plot_transfer_evolution = forwarded("pictures", Pictures.plot_transfer_evolution)
    plot_transient_single = forwarded("pictures", Pictures.plot_transient_single)
    plot_transient_all = forwarded("pictures", Pictures.plot_transient_all)
    plot_feature_trend = forwarded("pictures", Pictures.plot_feature_trend)
    create_transfer_animation = forwarded("pictures", Pictures.create_transfer_animation)
    create_transfer_video = forwarded("pictures", Pictures.create_transfer_video)

    def __repr__(self) -> str:
        return (
            f"<UnifiedExperiment {self.id}: {self.test_id}, chip {self.chip_id}, "
            f"device {self.device_id}, {self.status}>"
        )
