"""Links that work where the notebook is behind a JupyterHub.

A port of the machine of a notebook is seen through the hub by jupyter-server-proxy, under the path
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
    """Return where browsers see the server of this notebook, with a slash at its end.

    It begins with a path where the hub does not tell its name, which links of a page understand;
    None where there is no hub.
    """
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if not prefix:
        return None
    return (os.environ.get("JUPYTERHUB_PUBLIC_URL") or prefix).rstrip("/") + "/"


def lead_dashboards_through_hub(*, here: bool) -> None:
    """Let links to dashboards lead through the hub, where there is one.

    That is Dask's own setting, ``distributed.dashboard.link``; what somebody else has written there
    is left.

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
