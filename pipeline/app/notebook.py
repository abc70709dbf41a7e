"""The page of a folder of results in a notebook, or wherever Python runs."""

from __future__ import annotations

import os
from html import escape

from oectflow.pipeline.app.server import AppServer
from oectflow.pipeline.inputs.find import Experiments

_HEIGHT = 900


class RunningApp:
    """A page that is served from this process; as the last value of a notebook cell it is shown.

    Attributes
    ----------
    url
        Its address, with the token that opens it.
    """

    def __init__(self, server: AppServer) -> None:
        self._server = server
        self.url = server.url

    def stop(self) -> None:
        """End it; it ends with this process, too."""
        self._server.stop()

    def __repr__(self) -> str:
        return f"RunningApp: {self.url}"

    def _repr_html_(self) -> str:
        url = escape(self.url)
        return (
            f'<iframe src="{url}" width="100%" height="{_HEIGHT}" style="border:0"></iframe>'
            f'<p><a href="{url}" target="_blank">in a window of its own</a></p>'
        )


def app(
    results: str | os.PathLike[str], raw: Experiments | None = None, *, port: int = 0
) -> RunningApp:
    """Look through results in a browser: worst fits first, trends, marks, windows by hand.

    Parameters
    ----------
    results
        Folder that :func:`oectflow.extract` has written.
    raw
        Folder of raw files, a glob, one file, or several of them; by default those that the
        results name.
    port
        At which it listens, on this machine alone; 0 takes a free one.

    Returns
    -------
    What shows the page as the last value of a notebook cell; ``url`` opens it elsewhere, ``stop()``
    ends it.  The browser has to run on the machine of the notebook, or reach its port (a tunnel);
    behind a JupyterHub, it comes through jupyter-server-proxy.

    Raises
    ------
    OectflowError
        Bokeh or matplotlib is not installed, there are no results or raw files, or the port is
        taken.

    Examples
    --------
    >>> import oectflow as of
    >>> of.app("features/", raw="raw/")  # doctest: +SKIP
    """
    server = AppServer(results, raw, port=port)
    server.start()
    return RunningApp(server)
