# What `import oectflow as of` offers.  A name is imported when it is first used, from where this
# file says, so that a worker process, which needs few of them, starts quickly.
from .cluster.connect import connect
from .extractors import (
    BaseExtractor,
    Batch,
    Params,
    Variable,
    extractor_names,
    get_extractor,
    register,
)
from .extractors.prompts import DWTPromptGenerator
from .pipeline.demo import make_demo
from .pipeline.errors import (
    ClusterError,
    ConfigError,
    InputError,
    OectflowError,
    OutputError,
    RunFailed,
)
from .pipeline.execution.report import ExperimentRecord, RunReport
from .pipeline.execution.run import extract
from .pipeline.features.feature_set import FeatureSet
from .pipeline.inputs.experiment import Experiment
from .pipeline.inputs.ingest import ingest
from .pipeline.inputs.repack import repack
from .pipeline.outputs.plots import plot_feature, plot_transfer, plot_transient
from .pipeline.outputs.results import open_results, problems_frame, results_frame

__version__: str

__all__ = [
    "BaseExtractor",
    "Batch",
    "ClusterError",
    "ConfigError",
    "DWTPromptGenerator",
    "Experiment",
    "ExperimentRecord",
    "FeatureSet",
    "InputError",
    "OectflowError",
    "OutputError",
    "Params",
    "RunFailed",
    "RunReport",
    "Variable",
    "connect",
    "extract",
    "extractor_names",
    "get_extractor",
    "ingest",
    "make_demo",
    "open_results",
    "plot_feature",
    "plot_transfer",
    "plot_transient",
    "problems_frame",
    "register",
    "repack",
    "results_frame",
]
