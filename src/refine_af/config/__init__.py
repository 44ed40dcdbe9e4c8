"""The configuration of a run: its options, and how a user's file becomes them."""

from refine_af.config.arms import Arm
from refine_af.config.experiment import ExperimentConfig
from refine_af.config.feedback import FeedbackConfig, ScorerConfig
from refine_af.config.load import (
    GONE,
    PRESETS,
    as_yaml,
    differences,
    load_config,
    nearest_name,
    shown_differences,
)
from refine_af.config.model import ModelConfig, ServerConfig
from refine_af.config.options import (
    Config,
    EvaluationConfig,
    FinetuneConfig,
    GuardsConfig,
    InstancesConfig,
    InstructionsConfig,
    LoraSettings,
    PolicyConfig,
    SamplingConfig,
    SeedsConfig,
)

__all__ = [
    "GONE",
    "PRESETS",
    "Arm",
    "Config",
    "EvaluationConfig",
    "ExperimentConfig",
    "FeedbackConfig",
    "FinetuneConfig",
    "GuardsConfig",
    "InstancesConfig",
    "InstructionsConfig",
    "LoraSettings",
    "ModelConfig",
    "PolicyConfig",
    "SamplingConfig",
    "ScorerConfig",
    "SeedsConfig",
    "ServerConfig",
    "as_yaml",
    "differences",
    "load_config",
    "nearest_name",
    "shown_differences",
]
