"""Kubernetes: what is handed to it, by the schema of Dask's operator; its commands, run here."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client

from oectflow.cluster.connect import connect
from oectflow.cluster.kubernetes import start_kubernetes
from oectflow.cluster.security import given_certificates, main
from oectflow.cluster.settings import DASK_CONFIG, WORKER_ENVIRONMENT, as_environment
from oectflow.errors import ClusterError

DEPLOY = Path(__file__).resolve().parents[2] / "cluster" / "deploy"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    package = os.environ.get("OECTFLOW_TEST_KUBERNETES")
    if package is None:
        pytest.skip("OECTFLOW_TEST_KUBERNETES does not name the folder of dask_kubernetes")
    (path,) = Path(package).glob("**/crds/daskcluster.yaml")
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    found = version["schema"]["openAPIV3Schema"]
    jsonschema.Draft7Validator.check_schema(found)
    return found


def unknown_fields(found: Any, schema: dict[str, Any], at: str = "") -> list[str]:
    """Return the fields that the schema does not know: Kubernetes drops them without a word."""
    if isinstance(found, list):
        return [
            name
            for i, one in enumerate(found)
            for name in unknown_fields(one, schema.get("items", {}), f"{at}[{i}]")
        ]
    free = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & set(schema)
    if not isinstance(found, dict) or free:
        return []
    known = schema.get("properties", {})
    names = [] if known else [at]
    for name, one in found.items():
        if name in known:
            names += unknown_fields(one, known[name], f"{at}.{name}")
        elif known:
            names.append(f"{at}.{name}")
    return names


def check(spec: dict[str, Any], schema: dict[str, Any]) -> None:
    import jsonschema

    jsonschema.validate(spec, schema, jsonschema.Draft7Validator)
    assert unknown_fields(spec["spec"], schema["properties"]["spec"]) == []


@pytest.fixture
def operator(monkeypatch):
    class Operator:
        @staticmethod
        def KubeCluster(**options):
            return options

    monkeypatch.setitem(sys.modules, "dask_kubernetes", Operator)
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", Operator)


@pytest.mark.usefixtures("operator")
def test_what_is_handed_on_fits_the_schema(schema):
    given = start_kubernetes(
        4, "4Gi", image="ours:1", volumes={"oectflow-data": "/data"}, namespace="lab"
    )
    check(given["custom_cluster_spec"], schema)
    check(start_kubernetes(image="ours:1")["custom_cluster_spec"], schema)


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("where", "value"), [("replicaz", 3), ("replicas", "three"), ("spec", {"containers": "one"})]
)
def test_the_schema_finds_faults(where, value, schema):
    spec = start_kubernetes(1, image="ours:1")["custom_cluster_spec"]
    spec["spec"]["worker"][where] = value
    import jsonschema

    with pytest.raises((AssertionError, jsonschema.ValidationError)):
        check(spec, schema)


def test_the_recipe_fits_the_schema(schema):
    check(yaml.safe_load((DEPLOY / "kubernetes" / "cluster.yaml").read_text()), schema)


@pytest.mark.usefixtures("operator")
def test_what_is_handed_on():
    given = start_kubernetes(
        4, "4Gi", image="ours:1", env={"A": "b"}, volumes={"oectflow-data": "/data"},
        scheduler_memory="8Gi", namespace="lab",
    )  # fmt: skip
    spec = given.pop("custom_cluster_spec")["spec"]
    assert given == {"namespace": "lab"}
    assert spec["worker"]["replicas"] == 4
    for part, memory in (("worker", "4Gi"), ("scheduler", "8Gi")):
        pod = spec[part]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        (container,) = pod["containers"]
        assert container["image"] == "ours:1"
        assert container["resources"]["limits"] == {"memory": memory}
        assert container["resources"]["requests"] == {"memory": memory, "cpu": "1"}
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["volumeMounts"] == [{"name": "oectflow-data", "mountPath": "/data"}]
        env = {one["name"]: one["value"] for one in container["env"]}
        assert env == WORKER_ENVIRONMENT | as_environment(DASK_CONFIG) | {"A": "b"}


@pytest.mark.usefixtures("operator")
def test_an_image_is_needed():
    with pytest.raises(ClusterError, match=r"say image=.*cluster/deploy/Dockerfile"):
        start_kubernetes(1)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_kubernetes", None)
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", None)
    with pytest.raises(ClusterError, match=r"pip install 'oectflow\[kubernetes\]'"):
        start_kubernetes(1)


def test_security():
    with pytest.raises(ClusterError, match="network policy"):
        start_kubernetes(1, security=True)


def recipe(part: str) -> dict[str, Any]:
    """Return the container of the recipe."""
    spec = yaml.safe_load((DEPLOY / "kubernetes" / "cluster.yaml").read_text())
    return spec["spec"][part]["spec"]["containers"][0]


def test_the_recipe_says_what_connect_says():
    for part in ("worker", "scheduler"):
        env = {one["name"]: one["value"] for one in recipe(part)["env"]}
        assert env == WORKER_ENVIRONMENT | as_environment(DASK_CONFIG)


def test_the_names_of_the_recipe_fit_each_other():
    volume, policy, cluster = (
        yaml.safe_load((DEPLOY / "kubernetes" / f"{name}.yaml").read_text())
        for name in ("volume", "network-policy", "cluster")
    )
    name = cluster["metadata"]["name"]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"dask.org/cluster-name": name}
    for part in ("worker", "scheduler"):
        pod = cluster["spec"][part]["spec"]
        claims = [one.get("persistentVolumeClaim", {}).get("claimName") for one in pod["volumes"]]
        assert volume["metadata"]["name"] in claims
        mounted = {one["name"] for one in pod["containers"][0]["volumeMounts"]}
        assert mounted == {one["name"] for one in pod["volumes"]}
    assert f"tls://{name}-scheduler:8786" in recipe("worker")["args"]


def test_the_commands_of_the_recipe_make_a_cluster_with_tls(tmp_path, monkeypatch):
    (tmp_path / "no_kernels.py").write_text("def warm_up():\n    pass\n")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    monkeypatch.syspath_prepend(str(tmp_path))
    tls = tmp_path / "tls"
    main([str(tls)])
    assert {one.name: stat.S_IMODE(one.stat().st_mode) for one in tls.iterdir()} == {
        "ca_file.pem": 0o600, "cert.pem": 0o600, "key.pem": 0o600,
    }  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"tls://127.0.0.1:{probe.getsockname()[1]}"

    def start(part, *more):
        here = {
            "0.0.0.0": "127.0.0.1",
            "tls://oectflow-scheduler:8786": address,
            "$(DASK_WORKER_NAME)": "w",
            "8788": "127.0.0.1:0",
            # Four workers are one, as far as this goes.
            "4": "1",
        }
        words = [here.get(word, word.replace("/tls/", f"{tls}/")) for word in recipe(part)["args"]]
        env = {one["name"]: one["value"] for one in recipe(part)["env"]}
        assert words[0] == "dask"
        return subprocess.Popen(
            [Path(sys.executable).with_name("dask"), *words[1:], *more],
            env=os.environ | env, stderr=subprocess.DEVNULL, cwd=tmp_path,
        )  # fmt: skip

    files = {name: str(tls / f"{name}.pem") for name in ("ca_file", "cert", "key")}
    port = address.rpartition(":")[2]
    started = [start("scheduler", "--port", port, "--dashboard-address", "127.0.0.1:0")]
    try:
        started.append(start("worker", "--host", "127.0.0.1"))
        with Client(address, security=given_certificates(files), timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
        with connect(address, security=files, kernels="no_kernels") as client:
            assert client.submit(sum, [1, 2]).result(60) == 3
            (pause,) = client.run(
                lambda dask_worker: dask_worker.memory_manager.memory_pause_fraction
            ).values()
            assert pause is False
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(60)


def test_a_certificate_is_never_written_over_another(tmp_path):
    with pytest.raises(SystemExit, match="exists; say the name of a new folder"):
        main([str(tmp_path)])
    with pytest.raises(SystemExit, match="say the name of a new folder"):
        main([])


def test_the_image_is_pinned_and_not_of_root():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (base,) = [line.partition("=")[2] for line in lines if line.startswith("ARG PYTHON=")]
    assert base.split("-")[0].count(".") == 2
    assert all(line.split()[1] == "python:${PYTHON}" for line in lines if line.startswith("FROM"))
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users == ["1000:1000"]
    assert any("--constraint" in line for line in lines)
