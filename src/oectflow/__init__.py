"""oectflow: features of organic electrochemical transistor measurements, on Dask.

>>> import oectflow as of
>>> client = of.connect()  # doctest: +SKIP
>>> report = of.extract("raw/", "all", "features/")  # doctest: +SKIP
>>> results = of.open_results("features/")  # doctest: +SKIP
"""

from typing import Any

import lazy_loader

_offered, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("oectflow")
    return _offered(name)
