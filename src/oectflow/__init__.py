"""oectflow: features of organic electrochemical transistor measurements, on Dask."""

__version__ = "0.1.0"
