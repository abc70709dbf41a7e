"""One of several processes that use a catalog at the same time.

    python crowd.py scan|extract URL FOLDER SECONDS

``scan`` brings the catalog up to date with ``FOLDER/raw`` again and again.  ``extract`` writes a
result file for every raw file that has none, as a run does, and records it.  Prints what it did.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from oectflow.errors import UnreadableFile
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.experiment import Experiment


def scan(catalog: Catalog, folder: Path, deadline: float) -> dict[str, int]:
    done = {"scans": 0, "added": 0, "changed": 0}
    while time.monotonic() < deadline:
        report = catalog.scan(folder / "raw", workers=1)
        if report.problems:
            raise SystemExit(str(report))
        done["scans"] += 1
        done["added"] += report.counts["added"]
        done["changed"] += report.counts["changed"]
        # Another state of the catalog for the others to meet.
        catalog.search(has_features="tau" if catalog.stats().by_feature else None)
    return done


def extract(catalog: Catalog, folder: Path, deadline: float) -> dict[str, int]:
    recorded = 0
    while time.monotonic() < deadline:
        for path in sorted((folder / "raw").glob("*-test_*.h5")):
            out = folder / "features" / f"{path.stem}.parquet"
            if time.monotonic() < deadline and not out.exists():
                try:
                    experiment = Experiment(path)
                except UnreadableFile:
                    # Another one is just replacing it: it comes again in the next round.
                    continue
                write_result(experiment, out)
                catalog.record_features(out)
                recorded += 1
        time.sleep(0.01)
    return {"recorded": recorded}


def write_result(experiment: Experiment, out: Path) -> None:
    metadata = {
        "format": 1,
        "config": "crowd",
        "created": "2025-08-15T12:00:00+00:00",
        "features": {"tau": {"fingerprint": "f", "counts": {"ok": 1}}},
        "identity": {
            "experiment_id": experiment.experiment_id,
            "chip_id": experiment.chip_id,
            "device_id": experiment.device_id,
        },
        "n_rows": 1,
        "source": {
            "path": str(experiment.path),
            "size": experiment.identity.size,
            "mtime_ns": experiment.identity.mtime_ns,
            "content_hash": experiment.content_hash(),
            "n_steps": {source: experiment.n_steps(source) for source in experiment.sources},
        },
    }
    schema = pa.schema([("tau", pa.float64())], {b"oectflow": json.dumps(metadata).encode()})
    pq.write_table(schema.empty_table(), out)


if __name__ == "__main__":
    role, url, place, seconds = sys.argv[1:]
    with Catalog(url) as opened:
        work = {"scan": scan, "extract": extract}[role]
        print(json.dumps(work(opened, Path(place), time.monotonic() + float(seconds))))
