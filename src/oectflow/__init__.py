"""oectflow: features of organic electrochemical transistor measurements, on Dask.

>>> import oectflow as of
>>> report = of.extract("raw/", "transient_tau", "features/", progress=False)
>>> results = of.open_results("features/")

This computes in one process; ``client=of.connect()`` gives it a worker for each core.
"""

from typing import Any

import lazy_loader

_offered, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        # Looked up in files, which takes a millisecond; every run asks for it.
        return globals().setdefault(name, version("oectflow"))
    return _offered(name)
