"""The command line, ``oectflow``: a module for each group of commands, and ``main`` to run them."""

from oectflow.pipeline.cli.app import main

__all__ = ["main"]
