"""Behind a proxy: a real Jupyter server with jupyter-server-proxy, as a hub starts it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import dask
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

import oectflow as of
from oectflow.cluster.connect import connect
from oectflow.cluster.hub import hub_address, lead_dashboards_through_hub

from ...cluster.browser import Browser, find_chromium

PREFIX = "/user/alice/"
TOKEN = "a-token-of-jupyter"
HUB = "hub.example.org"


@dataclass(frozen=True)
class Jupyter:
    """A server that runs."""

    address: str

    def get(self, path, **headers):
        """Return status and text of a page, as the browser of the user gets it."""
        return get(f"http://{self.address}{path}", Authorization=f"token {TOKEN}", **headers)

    def first_word(self, path, page):
        """Return the first message that a page gets through its websocket, at a hub's name."""
        request = HTTPRequest(
            f"ws://{self.address}{path}",
            headers={
                "Authorization": f"token {TOKEN}", "Host": HUB, "Origin": f"https://{HUB}",
                "Cookie": "",
            },
        )  # fmt: skip
        (token,) = re.findall(r'"token":"([^"]+)"', page)

        async def ask():
            stream = await websocket_connect(request, subprotocols=["bokeh", token])
            said = await stream.read_message()
            stream.close()
            while await stream.read_message() is not None:
                pass
            return said

        return asyncio.run(ask())


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    pytest.importorskip("jupyter_server_proxy", reason="jupyter-server-proxy is not installed")
    folder = tmp_path_factory.mktemp("jupyter")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = {
        "ServerApp.base_url": PREFIX, "ServerApp.ip": "127.0.0.1", "ServerApp.port": port,
        "ServerApp.port_retries": 0, "ServerApp.open_browser": False,
        "ServerApp.allow_root": True, "ServerApp.root_dir": folder,
        "IdentityProvider.token": TOKEN,
        # As a hub does: names are checked by the hub.
        "ServerApp.allow_remote_access": True, "ServerApp.allow_origin": f"https://{HUB}",
        "ServerApp.jpserver_extensions": "jupyter_server_proxy=True",
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *(f"--{k}={v}" for k, v in options.items())],
            env=os.environ
            | {f"JUPYTER_{name}_DIR": str(folder) for name in ("CONFIG", "DATA", "RUNTIME")},
            stderr=log,
        )
    server = Jupyter(f"127.0.0.1:{port}")
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        try:
            if server.get(f"{PREFIX}api/status")[0] == 200:
                break
        except urllib.error.URLError:
            time.sleep(0.05)
    yield server
    process.terminate()
    process.wait(60)


@pytest.fixture
def hub(monkeypatch):
    """A hub that does not tell its name, as most."""
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", PREFIX)
    monkeypatch.delenv("JUPYTERHUB_PUBLIC_URL", raising=False)
    with dask.config.set({"distributed.dashboard.link": "{scheme}://{host}:{port}/status"}):
        yield


@pytest.fixture
def client(hub, tmp_path, monkeypatch):
    (tmp_path / "no_kernels.py").write_text("def warm_up():\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with connect("local", n_workers=1, dashboard_port=0, kernels="no_kernels") as client:
        yield client


def test_the_dashboard_is_seen_through_the_proxy(jupyter, client):
    link = client.dashboard_link
    port = re.fullmatch(rf"{PREFIX}proxy/(\d+)/status", link)[1]
    assert link in client._repr_html_()
    # What is not let in by the proxy is no page of the hub.
    assert get(f"http://127.0.0.1:{port}/status", Host=HUB)[0] == 403
    for page in (link, link.replace("/status", "/oectflow")):
        status, text = jupyter.get(page, Host=HUB)
        assert status == 200
        assert "Bokeh" in text
        assert "ACK" in jupyter.first_word(f"{page}/ws", text)
    assert get(f"http://127.0.0.1:{port}/status", Host="evil.example")[0] == 403
    assert "Bokeh" not in get(f"http://{jupyter.address}{link}")[1]


@pytest.mark.usefixtures("hub")
def test_the_app_is_seen_through_the_proxy(jupyter, lab):
    page = of.app(lab.out, lab.raw)
    try:
        path = re.fullmatch(rf"({PREFIX}proxy/absolute/\d+/)\?oectflow-token=.*", page.url)[1]
        assert f'src="{page.url}"' in page._repr_html_()
        assert jupyter.get(path, Host=HUB)[0] == 403
        status, text = jupyter.get(page.url, Host=HUB)
        assert status == 200
        (script,) = re.findall(r'src="([^"]*bokeh\.min\.js[^"]*)"', text)
        assert script.startswith(path)
        assert jupyter.get(script, Host=HUB)[0] == 200
        assert "ACK" in jupyter.first_word(f"{path}ws", text)
    finally:
        page.stop()


@pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed")
def test_in_a_browser(jupyter, client, lab, tmp_path):
    page = of.app(lab.out, lab.raw)
    ready = "window.Bokeh !== undefined && Bokeh.documents.length === 1"
    try:
        with Browser(tmp_path / "profile") as browser:
            browser.open(f"http://{jupyter.address}{PREFIX}api/status?token={TOKEN}")
            for link in (client.dashboard_link.replace("/status", "/oectflow"), page.url):
                browser.open(f"http://{jupyter.address}{link}")
                browser.wait_for(ready)
    finally:
        page.stop()


def test_a_hub_that_tells_its_name(monkeypatch):
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    assert hub_address() is None
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", PREFIX)
    assert hub_address() == PREFIX
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_URL", f"https://{HUB}{PREFIX.rstrip('/')}")
    assert hub_address() == f"https://{HUB}{PREFIX}"


@pytest.mark.usefixtures("hub")
def test_links_to_dashboards_elsewhere_and_links_of_ones_own():
    setting = "distributed.dashboard.link"
    lead_dashboards_through_hub(here=False)
    assert dask.config.get(setting) == f"{PREFIX}proxy/{{host}}:{{port}}/status"
    lead_dashboards_through_hub(here=True)
    assert dask.config.get(setting) == f"{PREFIX}proxy/{{port}}/status"
    with dask.config.set({setting: "https://mine/{port}"}):
        lead_dashboards_through_hub(here=True)
        assert dask.config.get(setting) == "https://mine/{port}"
