"""The server of the page: bound to loopback, open to whoever has the token."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oectflow.cluster.hub import hub_address
from oectflow.errors import ConfigError
from oectflow.extras import extra
from oectflow.pipeline.app.index import Progress
from oectflow.pipeline.app.shared import Shared
from oectflow.pipeline.inputs.find import Experiments

#: Whoever is to see it from elsewhere comes through a proxy, or an SSH tunnel.
_LOOPBACK = "127.0.0.1"
#: What a browser loads; Bokeh's own choice has 2 MB more, for formulas and WebGL.
_SCRIPTS = ("bokeh", "bokeh-widgets", "bokeh-tables")
#: Of the token in an address; by the first, Jupyter's server understands its own.
_NAMES = ("token", "oectflow-token")
_REFUSED = "open the address with the token that oectflow app has printed"


def need_bokeh() -> None:
    """Say what to install where it is missing, before results are read.

    Raises
    ------
    OectflowError
        Bokeh or matplotlib is not installed.
    """
    with extra("app", "the app"):
        import bokeh.server.server  # noqa: F401
        import matplotlib.figure  # noqa: F401


class AppServer:
    """Serves the page of a folder of results.

    Parameters
    ----------
    results, raw
        As in :class:`oectflow.pipeline.app.shared.Shared`.
    port
        0 takes a free one.
    prefix
        Path under which a proxy shows the page; by default, where a JupyterHub runs this, the path
        of jupyter-server-proxy.
    allow_origin
        Hosts, with their ports, under which browsers see the page; by default those of the
        server itself.
    progress
        As in :func:`oectflow.pipeline.app.index.open_index`.

    Attributes
    ----------
    url
        With the token.

    Raises
    ------
    OectflowError
        What it needs is not installed, there are no results, or the port is taken.
    """

    def __init__(
        self,
        results: str | os.PathLike[str],
        raw: Experiments | None = None,
        *,
        port: int = 0,
        prefix: str = "",
        allow_origin: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> None:
        need_bokeh()
        self.shared = Shared(results, raw, progress)
        self.token = secrets.token_urlsafe(24)
        self._port = port
        self._origins = list(allow_origin)
        self._base = f"http://{_LOOPBACK}:{{port}}"
        hub = hub_address() if not prefix and not allow_origin else None
        self._behind_hub = hub is not None
        self._name = _NAMES[self._behind_hub]
        if hub is not None:
            self._port = port or _free_port()
            server = urlsplit(hub)
            prefix = f"{server.path}proxy/absolute/{self._port}"
            self._base = f"{server.scheme}://{server.netloc}" if server.netloc else ""
        self._prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""
        self._loop: Any = None
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port at which it listens."""
        return int(self._server.port)

    @property
    def url(self) -> str:
        """The address of the page, with its token."""
        base = self._base.format(port=self.port)
        return f"{base}{self._prefix}/?{self._name}={self.token}"

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until somebody stops it.

        Parameters
        ----------
        ready
            Called once it listens.
        """
        from tornado.ioloop import IOLoop

        asyncio.set_event_loop(asyncio.new_event_loop())
        self._loop = IOLoop.current()
        try:
            self._warm()
            self._server = self._listen()
            self._server.start()
            self.shared.follow()
            ready()
            self._loop.start()
        finally:
            self.shared.stop()
            if self._server is not None:
                self._server.stop(wait=False)
                self._server.unlisten()
            self._loop.close()

    def start(self) -> None:
        """Serve in a thread of its own, and return once it listens."""
        ready = threading.Event()
        failed: list[BaseException] = []

        def serve() -> None:
            try:
                self.run(ready.set)
            except BaseException as error:  # noqa: BLE001 - it is raised where it was started
                failed.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=serve, name="oectflow-app", daemon=True)
        self._thread.start()
        ready.wait()
        if failed:
            raise failed[0]

    def stop(self) -> None:
        """End what :meth:`start` has begun."""
        if self._thread is not None and self._thread.is_alive():
            self._loop.add_callback(self._loop.stop)
            self._thread.join()

    def _warm(self) -> None:
        """Make a page that nobody sees: what it imports and compiles, no visitor waits for."""
        from oectflow.pipeline.app.views.page import Page

        Page(self.shared, self.token, self._name)

    def _listen(self) -> Any:
        from bokeh.server.server import Server

        from oectflow.pipeline.app.picture import picture_handler

        name = f"oectflow-{self._port or secrets.token_hex(4)}"
        auth = _provider(self.token, name, f"{self._prefix}/", self._seen_from)
        try:
            # Bokeh leaves a socket open where the port is taken.
            socket.create_server((_LOOPBACK, self._port)).close()
        except OSError as error:
            raise ConfigError(
                f"{_LOOPBACK}:{self._port}: cannot listen there ({error.strerror or error}); "
                "choose another --port (port=), or 0 for a free one"
            ) from error
        server = Server(
            {"/": self._fill},
            io_loop=self._loop,
            port=self._port,
            address=_LOOPBACK,
            prefix=self._prefix,
            allow_websocket_origin=self._origins or None,
            use_xheaders=bool(self._origins) or self._behind_hub,
            auth_provider=auth,
            # What opens a session is signed, and only given to who has the token.
            sign_sessions=True,
            secret_key=secrets.token_urlsafe(32),
            include_cookies=[],
            include_headers=[],
            extra_patterns=[
                ("/picture.zip", picture_handler(), {"shared": self.shared, "auth": auth})
            ],
        )
        every = server._tornado.resources

        def needed(absolute_url: str | bool | None = None) -> Any:
            return every(absolute_url).clone(components=list(_SCRIPTS))

        server._tornado.resources = needed
        return server

    def _seen_from(self, host: str) -> None:
        """Learn the name of a hub that does not tell it, from who has the token."""
        if self._behind_hub:
            name = host if ":" in host else f"{host}:80"
            self._server._tornado.websocket_origins.add(name)

    def _fill(self, doc: Any) -> None:
        from jinja2 import Environment, FileSystemLoader

        from oectflow.pipeline.app.views.page import Page

        folder = Path(__file__).parent / "views"
        # Bokeh brings the base, and escapes what it puts in itself.
        templates = Environment(loader=FileSystemLoader(folder), autoescape=False)
        doc.template = templates.get_template("page.html.jinja")
        doc.title = f"{self.shared.folder.resolve().name} · oectflow"
        Page(self.shared, self.token, self._name).add_to(doc)


def _free_port() -> int:
    """Return a port that nobody has."""
    with socket.create_server((_LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def _provider(token: str, cookie: str, path: str, seen_from: Callable[[str], None]) -> Any:
    """Return what lets a request in: the token in its address, or the cookie that it left.

    What is let in by the token tells ``seen_from`` by which name it has called.
    """
    from bokeh.server.auth_provider import AuthProvider
    from bokeh.server.views.ws import WSHandler
    from tornado.web import HTTPError

    def is_token(given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), token.encode())

    def user(handler: Any) -> str | None:
        if isinstance(handler, WSHandler):
            # Bokeh looks at the signature of its session.
            return "reader"
        if any(is_token(handler.get_query_argument(name, None)) for name in _NAMES):
            handler.set_cookie(cookie, token, path=path, httponly=True, samesite="Strict")
            seen_from(handler.request.host.lower())
            return "reader"
        return "reader" if is_token(handler.get_cookie(cookie)) else None

    def refuse(_: Any) -> str:
        raise HTTPError(403, reason=_REFUSED)

    class TokenProvider(AuthProvider):  # type: ignore[misc] # Bokeh has no types here
        """Lets in who has the token."""

        @property
        def get_user(self) -> Callable[[Any], str | None]:
            return user

        @property
        def get_user_async(self) -> None:
            return None

        @property
        def login_url(self) -> None:
            return None

        @property
        def get_login_url(self) -> Callable[[Any], str]:
            return refuse

        @property
        def login_handler(self) -> None:
            return None

        @property
        def logout_url(self) -> None:
            return None

        @property
        def logout_handler(self) -> None:
            return None

    return TokenProvider()
