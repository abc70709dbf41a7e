from __future__ import annotations

import json
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from oectflow.errors import ConfigError
from oectflow.pipeline.watching.notify import Notifier, sender

MESSAGE = {"done": [{"id": "test_µ"}], "failed": []}


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.put((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(302 if self.path == "/away" else 500 if self.path == "/sick" else 204)
        if self.path == "/away":
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        server.got = queue.Queue()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def tell(target):
    complaints = []
    notifier = Notifier(sender(target), complaints.append)
    notifier.tell(MESSAGE)
    notifier.close()
    return complaints


def address(server, path):
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_a_server_gets_json(server):
    assert tell(address(server, "/hook?key=1")) == []
    path, kind, message = server.got.get_nowait()
    assert (path, message) == ("/hook?key=1", MESSAGE)
    assert kind.startswith("application/json")


@pytest.mark.parametrize(("path", "code"), [("/sick", "500"), ("/away", "302")])
def test_a_server_that_does_not_take_it_is_in_the_log(server, path, code):
    (complaint,) = tell(address(server, path))
    assert code in complaint
    # It is sent to nobody else.
    assert server.got.get_nowait()[0] == path
    assert server.got.empty()


def test_a_server_that_is_not_there_is_in_the_log(server):
    url = address(server, "/")
    server.server_close()
    (complaint,) = tell(url)
    assert "not taken" in complaint


def test_a_command_gets_json_and_no_shell(tmp_path):
    out = tmp_path / "out; touch nothing"
    code = "import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())"
    assert tell(f'{sys.executable} -c "{code}" "{out}"') == []
    assert json.loads(out.read_bytes()) == MESSAGE


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{sys.executable} -c \"import sys; sys.exit('no mail')\"", "ended with 1: no mail"),
        ("there-is-no-such-program x", "there-is-no-such-program"),
    ],
)
def test_a_command_that_fails_is_in_the_log(command, words):
    (complaint,) = tell(command)
    assert words in complaint


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://host/x", "http://", "https:///x", "", "mail 'x"]
)
def test_other_targets_are_refused(target):
    with pytest.raises(ConfigError, match="notify="):
        sender(target)


def test_whoever_is_slow_holds_nobody_up():
    release = threading.Event()
    complaints = []
    notifier = Notifier(lambda message: release.wait(60), complaints.append)
    for _ in range(300):
        notifier.tell(MESSAGE)
    assert any("still wait" in complaint for complaint in complaints)
    release.set()
    notifier.close()
