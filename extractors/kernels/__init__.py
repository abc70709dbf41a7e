"""Numba functions on plain arrays: no files, no Dask, no Python objects."""
