"""Parts of Dask that oectflow uses although Dask does not promise to keep them, in one place.

``tests/cluster/test_dask_internals.py`` names what is gone, and in which version of Dask.
"""

from __future__ import annotations

from typing import Any

from dask._task_spec import List, Task, TaskRef
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface, SpecCluster

__all__ = [
    "List",
    "ProcessInterface",
    "Status",
    "SteadyCluster",
    "Task",
    "TaskRef",
    "dashboard_pages",
    "new_page",
]


class SteadyCluster(SpecCluster):
    """A cluster whose workers are restarted by their nannies only."""

    def scheduler_is_gone(self) -> bool:
        """Whether the process of the scheduler has ended unexpectedly."""
        raise NotImplementedError

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # SpecCluster would, some seconds after a death, close the nanny of a worker that has died
        # again and is not back yet: for good.
        super(SpecCluster, self)._update_worker_status(op, msg)

    async def _close(self) -> None:
        if self.scheduler_is_gone() and self.status == Status.running:
            # Dask would try for half a minute to reach it.
            self.shutdown_scheduler = False
            self.scheduler.status = Status.closed
        await super()._close()


def dashboard_pages(scheduler: Any) -> list[Any]:
    """Return the applications that serve pages of a scheduler's dashboard; none without Bokeh."""
    application = getattr(scheduler, "http_application", None)
    return [app for app in getattr(application, "applications", ()) if hasattr(app, "app_paths")]


def new_page(scheduler: Any, name: str, fill: Any, update_ms: int) -> None:
    """Serve a page beside the other pages of the dashboard, and add it to their menu.

    Parameters
    ----------
    scheduler
        Scheduler in this process.
    name
        The last part of the page's address.
    fill
        Called with the document of each visitor; returns the function that updates it.
    update_ms
        How often this function is called, in ms.
    """
    from distributed.dashboard.components.scheduler import BOKEH_THEME, env
    from distributed.dashboard.core import BokehApplication
    from distributed.dashboard.scheduler import template_variables
    from tornado.ioloop import IOLoop

    variables = template_variables(scheduler)
    if name not in variables["pages"]:
        variables["pages"].insert(1, name)

    def document(scheduler: Any, extra: dict[str, Any], doc: Any) -> None:  # noqa: ARG001
        update = fill(doc)
        doc.template = env.get_template("simple.html")
        doc.template_variables.update(extra)
        doc.theme = BOKEH_THEME
        doc.add_periodic_callback(update, update_ms)

    prefix = dashboard_pages(scheduler)[0].prefix
    ours = BokehApplication({f"/{name}": document}, scheduler, prefix, template_variables=variables)
    scheduler.http_application.add_application(ours)
    ours.initialize(IOLoop.current())
    ours.start()
