"""The page of a folder of results, in a notebook or any other Python session."""

from __future__ import annotations

import os
from html import escape

from oectflow.pipeline.app.server import AppServer
from oectflow.pipeline.inputs.find import Experiments

_HEIGHT = 900


class RunningApp:
    """A page served from this process; a notebook shows it as the last value of a cell.

    Attributes
    ----------
    url
        Its address, with the token that opens it.
    """

    def __init__(self, server: AppServer) -> None:
        self._server = server
        self.url = server.url

    def stop(self) -> None:
        """Stop the page.  It also stops when this process ends."""
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
        Port to listen on, on this machine only; 0 takes a free one.

    Returns
    -------
    An object that shows the page as the last value of a notebook cell.  ``url`` opens the page
    elsewhere, ``stop()`` ends it.  The browser must run on the machine of the notebook, or reach
    its port (through a tunnel).  Behind a JupyterHub, the page comes through jupyter-server-proxy.

    Raises
    ------
    OectflowError
        Bokeh or matplotlib is not installed, there are no results or raw files, or the port is
        taken.

    Examples
    --------
    >>> import oectflow as of
    >>> page = of.app("features/", raw="raw/")
    >>> page
    RunningApp: http://127.0.0.1:...
    >>> page.stop()
    """
    server = AppServer(results, raw, port=port)
    server.start()
    return RunningApp(server)
