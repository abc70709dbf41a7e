"""oectflow: features of organic electrochemical transistor measurements, on Dask.

>>> import oectflow as of
>>> client = of.connect()  # doctest: +SKIP
>>> report = of.extract("raw/", "all", "features/")  # doctest: +SKIP
>>> results = of.open_results("features/")  # doctest: +SKIP
"""

from oectflow.cluster.connect import connect
from oectflow.extractors import (
    BaseExtractor,
    Batch,
    Params,
    Variable,
    extractor_names,
    get_extractor,
    register,
)
from oectflow.extractors.prompts import DWTPromptGenerator
from oectflow.pipeline.demo import make_demo
from oectflow.pipeline.errors import (
    ClusterError,
    ConfigError,
    InputError,
    OectflowError,
    OutputError,
    RunFailed,
)
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport
from oectflow.pipeline.execution.run import extract
from oectflow.pipeline.features.feature_set import FeatureSet
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.outputs.plots import plot_feature, plot_transfer, plot_transient
from oectflow.pipeline.outputs.results import open_results, problems_frame, results_frame

__version__ = "0.1.0"

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
    "results_frame",
]
