"""Links that work if the notebook is behind a JupyterHub.

jupyter-server-proxy shows a port of the notebook's machine through the hub, under the path
``proxy/<port>`` of the user's server.
"""

from __future__ import annotations

import os

import dask

#: As Dask configures it.
_DIRECT = "{scheme}://{host}:{port}/status"
#: Of schedulers whose dashboard listens on this machine, and of others.
_HERE, _ELSEWHERE = "proxy/{port}/status", "proxy/{host}:{port}/status"


def hub_address() -> str | None:
    """Return the address at which browsers see this notebook's server, with a slash at its end.

    If the hub does not tell its name, the address begins with a path, which links of a page
    understand.  None if there is no hub.
    """
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if not prefix:
        return None
    return (os.environ.get("JUPYTERHUB_PUBLIC_URL") or prefix).rstrip("/") + "/"


def lead_dashboards_through_hub(*, here: bool) -> None:
    """Let links to dashboards go through the hub, if there is one.

    This uses Dask's setting ``distributed.dashboard.link``.  A value that somebody else has set is
    kept.

    Parameters
    ----------
    here
        Whether the dashboard listens on this machine.
    """
    hub = hub_address()
    now = dask.config.get("distributed.dashboard.link", _DIRECT)
    if hub is None or not (now == _DIRECT or now.endswith((_HERE, _ELSEWHERE))):
        return
    escaped = hub.replace("{", "{{").replace("}", "}}")
    dask.config.set({"distributed.dashboard.link": escaped + (_HERE if here else _ELSEWHERE)})
