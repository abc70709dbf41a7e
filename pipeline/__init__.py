"""Files in, features out: reading, planning, running and writing."""

if __name__ != "oectflow.pipeline":
    raise ImportError("import oectflow.pipeline, not pipeline")
