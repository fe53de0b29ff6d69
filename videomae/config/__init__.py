"""The settings of all commands, with their meanings and checks: one module per topic.

Only the standard library is imported. A default stands here or in one file under configs/, never in
both: a setting that depends on the recipe, the data set or the machine has no default here and
comes from its config group.
"""

from videomae.config.augment import AugmentConfig, CropKind
from videomae.config.clip import MOST_TOKENS, ClipConfig
from videomae.config.curate import (
    CurateConfig,
    CurateStage,
    CutMethod,
    CutsConfig,
    EngineConfig,
    EngineName,
    LimitConfig,
    ListLabels,
    Order,
    PageConfig,
    RulesConfig,
    Scenes,
    Unmeasured,
)
from videomae.config.curate_models import EmbedConfig, PersonsConfig, TextConfig
from videomae.config.data import (
    CLASS,
    MULTILABEL,
    REGRESSION,
    DataConfig,
    Sampling,
    SourceConfig,
)
from videomae.config.files import Dataset, PackConfig, PrepareConfig, Scan, ScanConfig
from videomae.config.lists import (
    MAX_CLIP_BYTES,
    MIN_CLIP_BYTES,
    ListConfig,
    ListFormat,
    is_template,
)
from videomae.config.mask import MaskConfig, MaskKind, check_mask
from videomae.config.model import ModelConfig, Positions, token_grid
from videomae.config.optim import OptimConfig
from videomae.config.overview import DoctorConfig, RecipesConfig, RecipeStage, ReportConfig
from videomae.config.probe import ProbeConfig, ProbeKind
from videomae.config.run import (
    AUTO,
    AttentionBackend,
    Device,
    GradientType,
    Precision,
    Recompute,
    RunConfig,
    Sharding,
)
from videomae.config.settings import ConfigError, UserError, config_dir
from videomae.config.train import (
    SCRATCH,
    EpochProbeConfig,
    EvaluateConfig,
    FinetuneConfig,
    PretrainConfig,
    TrainConfig,
    WhichWeights,
)
from videomae.config.use import (
    ConvertConfig,
    ExtractConfig,
    FeatureFormat,
    Pool,
    PredictConfig,
    ReconstructConfig,
    WeightsFormat,
)

__all__ = [
    "AUTO",
    "CLASS",
    "MAX_CLIP_BYTES",
    "MIN_CLIP_BYTES",
    "MOST_TOKENS",
    "MULTILABEL",
    "REGRESSION",
    "SCRATCH",
    "AttentionBackend",
    "AugmentConfig",
    "ClipConfig",
    "ConfigError",
    "ConvertConfig",
    "CropKind",
    "CurateConfig",
    "CurateStage",
    "CutMethod",
    "CutsConfig",
    "DataConfig",
    "Dataset",
    "Device",
    "DoctorConfig",
    "EmbedConfig",
    "EngineConfig",
    "EngineName",
    "EpochProbeConfig",
    "EvaluateConfig",
    "ExtractConfig",
    "FeatureFormat",
    "FinetuneConfig",
    "GradientType",
    "LimitConfig",
    "ListConfig",
    "ListFormat",
    "ListLabels",
    "MaskConfig",
    "MaskKind",
    "ModelConfig",
    "OptimConfig",
    "Order",
    "PackConfig",
    "PageConfig",
    "PersonsConfig",
    "Pool",
    "Positions",
    "Precision",
    "PredictConfig",
    "PrepareConfig",
    "PretrainConfig",
    "ProbeConfig",
    "ProbeKind",
    "RecipeStage",
    "RecipesConfig",
    "Recompute",
    "ReconstructConfig",
    "ReportConfig",
    "RulesConfig",
    "RunConfig",
    "Sampling",
    "Scan",
    "ScanConfig",
    "Scenes",
    "Sharding",
    "SourceConfig",
    "TextConfig",
    "TrainConfig",
    "Unmeasured",
    "UserError",
    "WeightsFormat",
    "WhichWeights",
    "check_mask",
    "config_dir",
    "is_template",
    "token_grid",
]
