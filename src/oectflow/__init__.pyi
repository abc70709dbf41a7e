# What `import oectflow as of` offers.  A name is imported when it is first used, from where this
# file says, so that a worker process, which needs few of them, starts quickly.
from .cluster.connect import connect
from .errors import (
    CatalogError,
    ClusterError,
    ConfigError,
    InputError,
    OectflowError,
    OutputError,
    RunFailed,
    UnknownFeature,
)
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
from .pipeline.app.notebook import app
from .pipeline.demo import make_demo
from .pipeline.execution.driving.run import extract, plan
from .pipeline.execution.planning.run_plan import RunPlan
from .pipeline.execution.report import ExperimentRecord, RunReport
from .pipeline.inputs.catalog import Catalog, CatalogConfig, CatalogEntry, SearchResult
from .pipeline.inputs.experiment import Experiment
from .pipeline.inputs.from_python import write_experiment
from .pipeline.inputs.ingest import ingest
from .pipeline.inputs.inspection import Inspection, inspect
from .pipeline.inputs.repack import repack
from .pipeline.inputs.samples import Samples, read_samples
from .pipeline.manager.experiment import UnifiedExperiment
from .pipeline.manager.feature_set import FeatureSet
from .pipeline.manager.manager import UnifiedExperimentManager
from .pipeline.manager.process import process_data_pipeline
from .pipeline.outputs.animate import animate_transfer
from .pipeline.outputs.browse import browse
from .pipeline.outputs.comparison_table import comparison_table
from .pipeline.outputs.export import export
from .pipeline.outputs.html import report
from .pipeline.outputs.legacy import open_legacy_features
from .pipeline.outputs.marking import mark, marks, unmark
from .pipeline.outputs.plots import (
    plot_bands,
    plot_chip,
    plot_comparison,
    plot_curves,
    plot_degradation,
    plot_feature,
    plot_run,
    plot_transfer,
    plot_transient,
)
from .pipeline.outputs.results import open_results, problems_frame, results_frame
from .pipeline.outputs.window_choice import set_window, windows
from .pipeline.publishing.publish import Publication, publish
from .pipeline.publishing.rerun import Rerun, rerun
from .pipeline.quick import FeatureTable, features, fit_tau
from .pipeline.statistics.compare import compare
from .pipeline.statistics.contacts import contact_resistance
from .pipeline.statistics.degradation import fit_degradation, forecast_degradation
from .pipeline.statistics.gain import intrinsic_gain
from .pipeline.statistics.mobility import mobility_capacitance
from .pipeline.statistics.pulses import pulse_ratios
from .pipeline.watching.watch import watch

__version__: str

__all__ = [
    "BaseExtractor",
    "Batch",
    "Catalog",
    "CatalogConfig",
    "CatalogEntry",
    "CatalogError",
    "ClusterError",
    "ConfigError",
    "DWTPromptGenerator",
    "Experiment",
    "ExperimentRecord",
    "FeatureSet",
    "FeatureTable",
    "InputError",
    "Inspection",
    "OectflowError",
    "OutputError",
    "Params",
    "Publication",
    "Rerun",
    "RunFailed",
    "RunPlan",
    "RunReport",
    "Samples",
    "SearchResult",
    "UnifiedExperiment",
    "UnifiedExperimentManager",
    "UnknownFeature",
    "Variable",
    "animate_transfer",
    "app",
    "browse",
    "compare",
    "comparison_table",
    "connect",
    "contact_resistance",
    "export",
    "extract",
    "extractor_names",
    "features",
    "fit_degradation",
    "fit_tau",
    "forecast_degradation",
    "get_extractor",
    "ingest",
    "inspect",
    "intrinsic_gain",
    "make_demo",
    "mark",
    "marks",
    "mobility_capacitance",
    "open_legacy_features",
    "open_results",
    "plan",
    "plot_bands",
    "plot_chip",
    "plot_comparison",
    "plot_curves",
    "plot_degradation",
    "plot_feature",
    "plot_run",
    "plot_transfer",
    "plot_transient",
    "problems_frame",
    "process_data_pipeline",
    "publish",
    "pulse_ratios",
    "read_samples",
    "register",
    "repack",
    "report",
    "rerun",
    "results_frame",
    "set_window",
    "unmark",
    "watch",
    "windows",
    "write_experiment",
]
