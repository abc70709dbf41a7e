"""The command line, ``oectflow``: a module for each group of commands, and ``main`` to run them."""

import sys

from oectflow.errors import OectflowError
from oectflow.extras import extra


def main() -> None:
    """Run the command ``oectflow``."""
    try:
        with extra("cli", "the command line"):
            from oectflow.pipeline.cli.app import main as run
    except OectflowError as error:
        sys.stderr.write(f"oectflow: {error}\n")
        sys.exit(2)
    run()
