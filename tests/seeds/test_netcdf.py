"""Results as a netCDF file, with a client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr
from distributed import Client

import oectflow as of


def test_to_netcdf__with_a_client(lab: Path, threads_of_dask: Any) -> None:
    of.extract(lab / "data" / "raw", "v2_transfer_basic", lab / "out", progress=False)
    # SciPy, which older xarray takes first, refuses that.
    with threads_of_dask(1) as cluster, Client(cluster):
        results = of.open_results(lab / "out")
        results.to_netcdf(lab / "results.nc")
    with xr.open_dataset(lab / "results.nc") as written:
        xr.testing.assert_equal(written.drop_attrs().load(), results.drop_attrs().load())
