"""Pictures of measurements and of their features.

Every function draws into the given axes, or into the axes of a new figure, and returns them.  No
function shows a window or keeps a figure.  Nothing is registered with pyplot, so a loop over a
thousand devices keeps only one picture in memory at a time.  A notebook shows new axes as the last
value of a cell; elsewhere, use ``ax.figure.savefig("picture.png")``.
"""

from oectflow.pipeline.outputs.plots.comparison import plot_comparison
from oectflow.pipeline.outputs.plots.curves import plot_curves
from oectflow.pipeline.outputs.plots.evolution import plot_bands, plot_degradation, plot_feature
from oectflow.pipeline.outputs.plots.overview import plot_chip, plot_run
from oectflow.pipeline.outputs.plots.transfer import plot_transfer
from oectflow.pipeline.outputs.plots.transient import plot_transient

__all__ = [
    "plot_bands",
    "plot_chip",
    "plot_comparison",
    "plot_curves",
    "plot_degradation",
    "plot_feature",
    "plot_run",
    "plot_transfer",
    "plot_transient",
]
