"""oectflow: features of organic electrochemical transistor measurements, on Dask.

>>> import oectflow as of
>>> client = of.connect()  # doctest: +SKIP
>>> report = of.extract("raw/", "all", "features/")  # doctest: +SKIP
>>> results = of.open_results("features/")  # doctest: +SKIP
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
