"""An S3 server on loopback, whose requests are counted and may be refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET = "AKIAOECTFLOWTESTS", "a-secret-of-the-tests"


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


class ObjectServer:
    """A server in a thread of this process.

    ``requests`` are method and path of all since it was emptied; ``meddle`` gets both, and returns
    a status with which the request is answered instead, or None.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.meddle: Callable[[str, str], str | None] = lambda method, path: None
        self._application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_Silent
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        asked = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append(asked)
        status = self.meddle(*asked)
        if status is not None:
            start_response(status, [("Content-Length", "0")])
            return [b""]
        return self._application(environ, start_response)

    def counts(self, method: str, name: str = "") -> int:
        """Return how many requests with a method were about objects with a name."""
        return sum(one == method and name in path for one, path in list(self.requests))

    @contextmanager
    def running(self) -> Iterator[ObjectServer]:
        """Serve while the context lasts."""
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
