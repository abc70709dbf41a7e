"""Results as files for other programs: Excel, Origin, MATLAB, NetCDF, Zarr."""

from oectflow.pipeline.outputs.export.export import export

__all__ = ["export"]
