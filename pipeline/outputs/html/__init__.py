"""A report of a batch: one HTML file with everything in it."""

from oectflow.pipeline.outputs.html.report import report

__all__ = ["report"]
