"""The server over HTTP: who is let in, where it listens, pictures for a paper."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import shutil
import socket
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile

import numpy as np
import pytest
from tornado.websocket import websocket_connect

import oectflow as of
from oectflow.errors import ConfigError, OectflowError
from oectflow.pipeline.app.server import AppServer


@pytest.fixture(scope="module")
def server(made, tmp_path_factory):
    out = shutil.copytree(made.out, tmp_path_factory.mktemp("served") / "out")
    server = AppServer(out, made.raw)
    server.start()
    yield server
    server.stop()


def get(url, headers=None):
    """Return the status and the body of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_token__opens_the_page_and_nothing_else_does(server):
    base, _, token = server.url.partition("?token=")
    status, page, headers = get(server.url)
    assert status == 200
    assert b"oectflow" in page
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    for path in ("", "picture.zip", "autoload.js?bokeh-autoload-element=1", "metadata"):
        for wrong in ("", f"token={token}x", "token=", "token=%C3%A9"):
            separator = "&" if "?" in path else "?"
            assert get(f"{base}{path}{separator}{wrong}")[0] == 403, (path, wrong)
    assert get(base, {"Cookie": cookie.split(";")[0]})[0] == 200
    assert get(base, {"Cookie": cookie.split(";")[0] + "x"})[0] == 403


def test_token__no_session_without_a_signature_of_this_server(server):
    from bokeh.util.token import generate_jwt_token, generate_session_id

    page = get(server.url)[1].decode()
    given = re.search(r'"token":"([^"]+)"', page)[1]
    secret = b"of somebody else"
    forged = generate_jwt_token(
        generate_session_id(secret_key=secret, signed=True), secret_key=secret, signed=True
    )
    address = server.url.partition("?")[0].replace("http:", "ws:") + "ws"

    async def first_answer(token):
        connection = await websocket_connect(address, subprotocols=["bokeh", token])
        first = answer = await connection.read_message()
        connection.close()
        while answer is not None:
            answer = await connection.read_message()
        return first

    assert "ACK" in asyncio.run(first_answer(given))
    assert asyncio.run(first_answer(forged)) is None


def test_server__listens_at_loopback_alone(server):
    (bound,) = {s.getsockname()[0] for s in server._server._http._sockets.values()}
    assert bound == "127.0.0.1"
    with socket.create_connection(("127.0.0.1", server.port), 5):
        pass


def test_server__port_that_is_taken(server, made):
    other = AppServer(server.shared.folder, made.raw, port=server.port)
    with pytest.raises(ConfigError, match=f"127.0.0.1:{server.port}: cannot listen"):
        other.start()


def test_server__below_a_prefix(lab):
    server = AppServer(lab.out, lab.raw, prefix="lab/desk/", allow_origin=["lab.example:443"])
    server.start()
    try:
        assert "/lab/desk/?token=" in server.url
        assert get(server.url)[0] == 200
        assert get(server.url.replace("/lab/desk", ""))[0] == 404
        picture = f"{server.url.replace('?', 'picture.zip?')}&view=trends&column=tau+on"
        assert get(picture)[0] == 200
        assert server._server._tornado.websocket_origins == {"lab.example:443"}
    finally:
        server.stop()


def test_server__stops_and_leaves_nothing(lab):
    server = AppServer(lab.out, lab.raw)
    server.start()
    port = server.port
    server.stop()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
        pass


def picture(server, **about):
    query = urllib.parse.urlencode({**about, "token": server.token})
    status, body, _ = get(f"{server.url.partition('?')[0]}picture.zip?{query}")
    return status, body


def rows_of(archive):
    (name,) = [name for name in archive.namelist() if name.endswith(".csv")]
    return list(csv.DictReader(io.StringIO(archive.read(name).decode())))


def test_picture__of_a_step(server, made):
    status, body = picture(server, view="step", experiment="B1", step="1", cycle="2", feature="tau")
    assert status == 200, body
    archive = zipfile.ZipFile(io.BytesIO(body))
    assert sorted(archive.namelist()) == [f"B1_step1_cycle2.{k}" for k in ("csv", "pdf", "svg")]
    assert archive.read("B1_step1_cycle2.svg").startswith(b"<?xml")
    assert archive.read("B1_step1_cycle2.pdf").startswith(b"%PDF")
    rows = rows_of(archive)
    measured = [row for row in rows if row["line"] == "measured"]
    step = of.Experiment(made.raw / "B1.h5").step("transient", 1)
    # Cycle 2 of 0.2 s at 1 kHz; the picture may show one sample more.
    assert len(measured) in (200, 201)
    expected = step["Id"][400 : 400 + len(measured)]
    np.testing.assert_array_equal([float(r["y"]) for r in measured], expected)
    assert {(r["x_unit"], r["y_unit"]) for r in measured} == {("s", "A")}
    assert {row["line"] for row in rows} >= {"fit, on", "fit, off"}
    # A sweep beside it, and the residuals below.
    assert len({row["panel"] for row in rows}) >= 3


def test_picture__of_trends(server):
    status, body = picture(server, view="trends", column="tau off", text="chip=A")
    assert status == 200, body
    rows = rows_of(zipfile.ZipFile(io.BytesIO(body)))
    results = of.open_results(server.shared.folder).load()
    for name in ("A1", "A2"):
        tau = results["tau"].sel(experiment=name, phase="off").median("cycle").dropna("step")
        own = [row["y"] for row in rows if f"device {name[1]}" in row["line"]]
        np.testing.assert_allclose([float(y) for y in own if y], tau, rtol=1e-6)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({}, "view=''"),
        ({"view": "step", "experiment": "x", "step": "0", "cycle": "0"}, "no results"),
        ({"view": "step", "experiment": "A1", "step": "-1", "cycle": "0"}, "step='-1'"),
        ({"view": "step", "experiment": "A1", "step": "99", "cycle": "0"}, "step 99"),
        ({"view": "trends", "column": "<script>"}, "no column"),
        ({"view": "trends", "column": "tau on", "text": "nobody"}, "no experiment"),
    ],
)
def test_picture__that_there_is_not(server, about, said):
    status, body = picture(server, **about)
    assert status == 404
    assert said in body.decode()


def test_need_bokeh__says_what_to_install(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh.server.server", None)
    with pytest.raises(OectflowError, match=r"pip install 'oectflow\[app\]'"):
        AppServer(made.out, made.raw)
