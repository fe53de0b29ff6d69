"""Commands that use weights: predict, extract, reconstruct, convert."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.data import Sampling
from videomae.config.lists import ListedConfig
from videomae.config.mask import MaskKind
from videomae.config.run import RunConfig
from videomae.config.settings import check, check_bounds, check_seed, setting


class WeightsFormat(Enum):
    """How weights are written; see videomae.weights.formats."""

    videomae = "videomae"
    official = "official"
    huggingface = "huggingface"


class Pool(Enum):
    """mean: of the tokens of a window; none: all of them."""

    mean = "mean"
    none = "none"


class FeatureType(Enum):
    """The numbers of written features."""

    float32 = "float32"
    float16 = "float16"


class FeatureFormat(Enum):
    """The files of written features: the tensor `features` of a safetensors file, or one array."""

    safetensors = "safetensors"
    npy = "npy"


@dataclass(frozen=True)
class HeadsConfig:
    """How many heads the weights of others have, which no tensor of theirs tells."""

    num_heads: int | None = None
    """Attention heads of the encoder; null: as the weights or the presets say."""


@dataclass(frozen=True)
class BothHeadsConfig(HeadsConfig):
    """How many heads an encoder and its decoder have."""

    decoder_num_heads: int | None = None
    """Attention heads of the decoder; null: as the weights or the presets say."""


@dataclass(frozen=True)
class ReconstructConfig(BothHeadsConfig):
    """python -m videomae.reconstruct"""

    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """Pre-trained weights of any released kind."""
    video: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/video.mp4", often=True
    )
    """Any video file."""
    output: str = setting("reconstruction.png", is_path=True, often=True)
    """The picture that is written."""
    mask_kind: MaskKind | None = None
    """tube or random; null: as the weights were trained."""
    mask_ratio: float | None = setting(None, above=0, below=1)
    """Share hidden from the encoder; null: as the weights were trained."""
    start: int | None = setting(None, at_least=0)
    """First source frame; null: the clip in the middle of the video."""
    stride: int | None = setting(None, at_least=1, often=True)
    """Source frames from one sampled frame to the next; null: that of the pre-training."""
    seed: int = 0
    """Draws the mask."""
    run: RunConfig = setting(factory=RunConfig)
    decoder: str = "auto"
    """pyav, decord, torchcodec, or package.module:Name; auto: the first that is there."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_bounds(self)


@dataclass(frozen=True)
class ConvertConfig(BothHeadsConfig):
    """python -m videomae.convert"""

    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """What is converted: weights of any released kind."""
    target: str | None = setting(
        None, is_path=True, example="/path/to/converted.safetensors", often=True
    )
    """The file that is written; with format=huggingface, the directory."""
    format: WeightsFormat | None = setting(None, example="videomae", often=True)
    """videomae: this project's; official: of the VideoMAE code; huggingface: of transformers."""
    frames: int | None = None
    """Frames per clip the weights were trained on; null: as they say."""
    size: int | None = None
    """Side of the frames the weights were trained on, in pixels; null: as they say."""
    stride: int | None = setting(None, at_least=1, often=True)
    """Source frames between two frames of a clip; null: as the weights say."""
    class_names: str | None = setting(None, is_path=True, often=True)
    """Text file, line i = name of class i."""
    head_map: str | None = setting(None, is_path=True)
    """JSON list: which row of the weights' head becomes class i; null: all of them."""
    overwrite: bool = False
    """Replace the target."""


@dataclass(frozen=True)
class PredictConfig(HeadsConfig):
    """python -m videomae.predict"""

    run: RunConfig = setting(kw_only=True)
    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """A fine-tuned classifier of any released kind."""
    video: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/video.mp4", often=True
    )
    """A video file, or a folder: every video below it."""
    segments: int = setting(5, at_least=1, often=True)
    """Temporal positions of a video's views."""
    crops: int = setting(3, at_least=1, often=True)
    """Spatial positions of a video's views."""
    stride: int | None = setting(None, at_least=1, often=True)
    """Source frames from one sampled frame to the next; null: that of the weights."""
    sampling: Sampling | None = None
    """dense or segment; null: as the weights say that they were trained, else dense."""
    class_names: str | None = setting(None, is_path=True, often=True)
    """Text file, line i = name of class i; null: the names that the weights hold."""
    target: str | None = None
    """Your own head, as package.module:Name, where the weights were fine-tuned with one; null: as
    the weights say."""
    top: int = setting(5, at_least=1)
    """Classes that are told of each video."""
    output: str = setting("predictions.json", is_path=True, often=True)
    """What is written."""
    sheet: str | None = setting(None, is_path=True)
    """Picture of the frames that the model saw: NAME.png, or a folder for one of each video."""
    decoder: str = "auto"
    """pyav, decord, torchcodec, or package.module:Name; auto: the first that is there."""

    def __post_init__(self) -> None:
        check_bounds(self)
        check(
            self.target is None or ":" in self.target,
            f"target={self.target} is not of the form package.module:Name: leave it out where the "
            "weights were fine-tuned without code of your own",
        )


@dataclass(frozen=True)
class ExtractConfig(ListedConfig, BothHeadsConfig):
    """python -m videomae.extract"""

    run: RunConfig = setting(kw_only=True)
    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """Weights of any released kind: of a pre-training, a classifier, or an encoder alone."""
    video: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/video.mp4", often=True
    )
    """A video file, or a folder: every video below it."""
    output_dir: str = setting("outputs/features", is_path=True, often=True)
    """Where the features and their manifest.jsonl are written."""
    hop: int | None = setting(None, at_least=1)
    """Source frames from one window to the next; null: a window, frames x stride."""
    stride: int | None = setting(None, at_least=1, often=True)
    """Source frames from one sampled frame to the next; null: that of the weights."""
    pool: Pool = setting(Pool.mean, often=True)
    """mean: (W, D) for the W windows of a video; none: (W, N, D), every token."""
    dtype: FeatureType = FeatureType.float32
    """float32 or float16."""
    format: FeatureFormat = FeatureFormat.safetensors
    """safetensors or npy."""
    decoder: str = "auto"
    """pyav, decord, torchcodec, or package.module:Name; auto: the first that is there."""

    def __post_init__(self) -> None:
        self.check_lines("")
