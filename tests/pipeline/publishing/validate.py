"""Validate a publication with the validators of RO-Crate and Frictionless, in their environment.

Call: python validate.py FOLDER CONTEXT SEVERITY.  CONTEXT is the JSON-LD context that comes with
rocrate: the validator would get it from the network, which tests do without.  The answer is JSON.
"""

import io
import json
import sys
from pathlib import Path

import requests
from frictionless import Package
from requests.adapters import HTTPAdapter
from rocrate_validator import models, services
from urllib3 import HTTPResponse

folder, context, severity = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]


def send(self, request, **options):
    if not request.url.startswith("https://w3id.org/ro/crate/"):
        raise requests.ConnectionError(f"{request.url}: tests use no network")
    body = io.BytesIO(context.read_bytes())
    headers = {"Content-Type": "application/ld+json"}
    return self.build_response(
        request, HTTPResponse(body, headers, status=200, preload_content=False)
    )


HTTPAdapter.send = send
settings = models.ValidationSettings(
    rocrate_uri=str(folder),
    profile_identifier="process-run-crate-0.5",
    requirement_severity=models.Severity[severity],
)
checked = services.validate(settings)
package = Package(str(folder / "tables" / "datapackage.json")).validate()
answer = {
    "crate": [
        f"{one.check.identifier}: {one.message} [{one.violatingEntity}]"
        for one in checked.get_issues(models.Severity[severity])
    ],
    "checks": len(checked.executed_checks),
    "tables": package.flatten(["title", "message"]),
    "resources": [task.name for task in package.tasks],
}
print(json.dumps(answer))
