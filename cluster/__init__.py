"""Turn one word into a Dask client whose workers are ready."""

if __name__ != "oectflow.cluster":
    raise ImportError("import oectflow.cluster, not cluster")
