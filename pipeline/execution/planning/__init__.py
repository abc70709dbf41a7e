"""What is decided: which steps run together, and what that costs; no Dask, no clock, no file."""
