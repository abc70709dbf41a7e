"""Pictures of measurements and of what was computed from them.

Every function draws into the axes that it is given, or into those of a new figure, and returns
them.  None of them shows a window or keeps a figure: nothing is registered with pyplot, so that a
loop over a thousand devices holds one picture at a time.  New axes show themselves as the last
value of a notebook cell; elsewhere, ``ax.figure.savefig("picture.png")``.
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
