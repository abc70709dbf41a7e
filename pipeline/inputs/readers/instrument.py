"""The folders of the laboratory's own instrument: ``test_info.json`` and one CSV per step."""

from __future__ import annotations

import json
from pathlib import Path

from oectflow.measurement import Measurement
from oectflow.pipeline.inputs.instrument_folder import TEST_INFO, read_folder, read_test_info
from oectflow.pipeline.inputs.raw_format import root_attributes
from oectflow.pipeline.inputs.readers.reader import Reading, Recognition


class InstrumentReader:
    """Reads one folder per test."""

    name = "instrument"
    title = "folders of the laboratory's own instrument"

    def recognises(self, path: Path) -> Recognition:
        """Look for the description of a test."""
        if (path / TEST_INFO).is_file():
            return Recognition(1.0, f"the folder holds {TEST_INFO}")
        return Recognition(0.0, f"the folder holds no {TEST_INFO}")

    def read(self, path: Path) -> Reading:
        """Read all steps of a test.

        Raises
        ------
        IngestError
            The description cannot be used, or no step can be read.
        """
        info = read_test_info(path)
        found = read_folder(info)
        steps = [*found.transfer_steps, *found.transient_steps]
        documents = {"json": json.dumps(info.original)}
        if found.workflow_json is not None:
            documents["workflow"] = found.workflow_json
        measurement = Measurement(
            root_attributes(info.tidy), steps, documents=documents, warnings=found.warnings
        )
        return Reading([measurement])


READER = InstrumentReader()
