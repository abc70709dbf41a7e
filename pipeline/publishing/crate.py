"""The manifest: an RO-Crate of the profile Process Run Crate.

One program was run over raw files with one configuration, which is what this profile is for.  The
Workflow Run Crate would need a workflow of several tools, and an engine that runs it; there is
neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import oectflow
from oectflow.errors import OutputError
from oectflow.extras import extra
from oectflow.pipeline.publishing.contents import Contents, sha256_of

if TYPE_CHECKING:
    from rocrate.rocrate import ROCrate

METADATA = "ro-crate-metadata.json"
#: The run that computed the results.
EXTRACTION = "#extraction"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_ORCID = re.compile(r"\s*<?(?:https://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])>?\s*$")
_FORMATS = {
    ".csv": "text/csv",
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}
_ABOUT = {
    "README.md": "how to read this publication, and to compute its numbers again",
    "features.yaml": "the features that were computed: extractors, parameters, expressions",
    "environment.json": "the machine and the versions",
    "requirements.txt": "the packages that were installed, for pip",
    "report.html": "a report to look at in a browser",
    "tables/datapackage.json": "Frictionless data package: what the tables hold, with units",
    "results/_marks/marks.jsonl": "what people have said of measurements, a line each",
}


def need_rocrate() -> None:
    """Raise OectflowError where the package that makes manifests is missing."""
    with extra("publish", "a publication"):
        import rocrate  # noqa: F401


def write_manifest(
    folder: Path,
    contents: Contents,
    *,
    title: str,
    description: str,
    license: str,  # noqa: A002 - the word of the standard
    authors: Sequence[str],
    published: datetime,
) -> None:
    """Write ``ro-crate-metadata.json`` about everything that stands in a folder."""
    from rocrate.model import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    # A term of the profiles of runs, written out so that no reader needs a network for it.
    crate.metadata.extra_terms["sha256"] = "https://w3id.org/ro/terms/workflow-run#sha256"

    def add(identifier: str, **properties: Any) -> Any:
        return crate.add(ContextEntity(crate, identifier, properties))

    root = crate.root_dataset
    root["name"], root["description"] = title, description
    root["datePublished"] = published.isoformat(timespec="seconds")
    profile = {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    root["conformsTo"] = add(_PROFILE, **profile)
    root["license"] = _license(add, license)
    people = [add(identifier, **about) for identifier, about in map(person, authors)]
    if people:
        root["author"] = people
    software = add(
        f"#oectflow-{oectflow.__version__}",
        **{"@type": "SoftwareApplication", "name": "oectflow"},
        softwareVersion=oectflow.__version__,
    )
    files = _add_files(crate, folder, contents)
    raws = [_raw(crate, folder, files, item) for item in contents.items]
    results = [one for place, one in files.items() if place.startswith("results/")]
    created = [item.metadata["created"] for item in contents.items]
    extraction = add(
        EXTRACTION,
        **{"@type": "CreateAction", "name": "Computing features of raw files"},
        description="oectflow extract RAW --features features.yaml --out results",
        instrument=software,
        object=[files["features.yaml"], *raws],
        result=results,
        startTime=min(created),
        endTime=max(created),
    )
    shown = [one for place, one in files.items() if place.startswith(("tables/", "report."))]
    tables = add(
        "#publication",
        **{"@type": "CreateAction", "name": "Writing tables and the report"},
        description="oectflow publish",
        instrument=software,
        object=results,
        result=shown,
        endTime=published.isoformat(timespec="seconds"),
    )
    for action in (extraction, tables):
        action["actionStatus"] = "http://schema.org/CompletedActionStatus"
        if people:
            action["agent"] = people[0]
    root["mentions"] = [extraction, tables]
    text = json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False)
    (folder / METADATA).write_text(f"{text}\n", encoding="utf-8")


def person(text: str) -> tuple[str, dict[str, Any]]:
    """Return identifier and description of an author.

    >>> person("Ada Lovelace 0000-0002-1825-0097")
    ('https://orcid.org/0000-0002-1825-0097', {'@type': 'Person', 'name': 'Ada Lovelace'})
    """
    found = _ORCID.search(text)
    name = " ".join((text[: found.start()] if found else text).split())
    if not name:
        raise OutputError(f"author {text!r}: expected a name, or a name and an ORCID")
    identifier = f"https://orcid.org/{found[1]}" if found else f"#{quote(name, safe='')}"
    return identifier, {"@type": "Person", "name": name}


def read_manifest(folder: Path) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
    """Return what a publication says of its files, and of the raw files of its results.

    Returns
    -------
    The SHA-256 by the place of a file; and by its place the description of every raw file, also of
    those that are not part of the publication: ``name``, ``contentSize``, ``sha256``.

    Raises
    ------
    OutputError
        It is no publication of oectflow.
    """
    path = folder / METADATA
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))["@graph"]
        entities = {entity["@id"]: entity for entity in graph}
        run = entities[EXTRACTION]
        used = run["object"] if isinstance(run["object"], list) else [run["object"]]
        raw = [entities[one["@id"]] for one in used]
        digests = {
            str(entity["name"]): str(entity["sha256"])
            for entity in graph
            if "sha256" in entity and not entity["@id"].startswith("#")
        }
        described: dict[str, Mapping[str, Any]] = {}
        for one in raw:
            if str(one["name"]).startswith("raw/"):
                described[str(one["name"])] = {
                    "size": int(one["contentSize"]), "sha256": str(one["sha256"]),
                }  # fmt: skip
        return digests, described
    except OSError as error:
        raise OutputError(
            f"{folder}: no publication of oectflow: {METADATA} cannot be read "
            f"({error.strerror or error})"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OutputError(
            f"{path}: is not as 'oectflow publish' writes it ({type(error).__name__}: "
            f"{str(error)[:100]}); get the publication again"
        ) from error


def _license(add: Any, text: str) -> Any:
    if not text:
        return "none is given; ask the authors before you use it"
    if text.startswith(("https://", "http://")):
        return add(text, **{"@type": "CreativeWork", "name": text})
    return add(
        f"https://spdx.org/licenses/{quote(text)}", **{"@type": "CreativeWork", "name": text}
    )


def _add_files(crate: ROCrate, folder: Path, contents: Contents) -> dict[str, Any]:
    """Describe every file that stands in a folder."""
    of_result = {f"results/{item.place}": item.experiment_id for item in contents.items}
    files = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        place = path.relative_to(folder).as_posix()
        about: dict[str, Any] = {
            "name": place,
            "contentSize": str(path.stat().st_size),
            "sha256": sha256_of(path),
            "encodingFormat": _FORMATS.get(path.suffix.lower(), "application/octet-stream"),
        }
        if place in of_result:
            about["description"] = f"features of {of_result[place]}"
        elif place in _ABOUT:
            about["description"] = _ABOUT[place]
        files[place] = crate.add_file(dest_path=place, properties=about)
    return files


def _raw(crate: ROCrate, folder: Path, files: Mapping[str, Any], item: Any) -> Any:
    """Return the description of a raw file, which may not be part of the publication."""
    from rocrate.model import ContextEntity

    raw = item.raw
    about = {"identifier": item.experiment_id, "description": f"measurements {item.experiment_id}"}
    if (folder / raw.place).is_file():
        entity = files[raw.place]
        for key, value in about.items():
            entity[key] = value
        return entity
    properties = {
        "@type": "CreativeWork",
        "name": raw.place,
        "contentSize": str(raw.size),
        "sha256": raw.sha256,
        "encodingFormat": "application/x-hdf5",
        **about,
    }
    return crate.add(ContextEntity(crate, f"#{quote(raw.place)}", properties))
