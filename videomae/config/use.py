"""Settings of the commands that use trained weights: predict, extract, reconstruct, convert."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from videomae.config.data import Sampling
from videomae.config.lists import ListedConfig, ListFormat
from videomae.config.mask import MaskKind
from videomae.config.run import RunConfig
from videomae.config.settings import check, check_bounds, check_seed, setting


class WeightsFormat(Enum):
    """The formats in which weights are written; videomae.weights.formats explains them."""

    videomae = "videomae"
    official = "official"
    huggingface = "huggingface"


class Pool(Enum):
    """The ways to pool a window's tokens. mean: their mean; none: every token is kept."""

    mean = "mean"
    none = "none"


class FeatureType(Enum):
    """The dtypes of written features."""

    float32 = "float32"
    float16 = "float16"


class FeatureFormat(Enum):
    """The file formats of features: safetensors, with a tensor `features`, or npy, with one
    array."""

    safetensors = "safetensors"
    npy = "npy"


@dataclass(frozen=True)
class HeadsConfig:
    """Number of attention heads of an encoder, which the tensors of a weights file do not show."""

    num_heads: int | None = None
    """Number of attention heads of the encoder; null: as the weights or the presets say."""


@dataclass(frozen=True)
class BothHeadsConfig(HeadsConfig):
    """Numbers of attention heads of an encoder and its decoder."""

    decoder_num_heads: int | None = None
    """Number of attention heads of the decoder; null: as the weights or the presets say."""


@dataclass(frozen=True)
class ReconstructConfig(BothHeadsConfig):
    """Settings of python -m videomae.reconstruct."""

    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """Pre-trained weights to load, of any released kind."""
    video: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/video.mp4", often=True
    )
    """Video file of which a clip is reconstructed."""
    output: str = setting("reconstruction.png", is_path=True, often=True)
    """PNG picture to write, relative to output_dir."""
    output_dir: str = setting(".", is_path=True, often=True)
    """Output directory of the picture."""
    mask_kind: MaskKind | None = None
    """Kind of encoder mask, tube or random; null: the one that the weights were trained with."""
    mask_ratio: float | None = setting(None, above=0, below=1)
    """Share of the tokens that are hidden from the encoder; null: the one that the weights were
    trained with."""
    start: int | None = setting(None, at_least=0)
    """First frame of the clip, as a frame number of the video from 0; null: the clip in the middle
    of the video."""
    stride: int | None = setting(None, at_least=1, often=True)
    """Distance between two frames of the clip, in frames of the video; null: that of the
    pre-training."""
    seed: int = 0
    """Random seed of the mask."""
    run: RunConfig = setting(factory=RunConfig)
    decoder: str = "auto"
    """Library that decodes videos: pyav, decord, torchcodec, or package.module:Name; auto: the
    first that is there."""

    @property
    def picture(self) -> Path:
        """Path of the picture."""
        return Path(self.output_dir) / self.output

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_bounds(self)


@dataclass(frozen=True)
class ConvertConfig(BothHeadsConfig):
    """Settings of python -m videomae.convert."""

    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """Weights to convert, of any released kind."""
    list: str | None = setting(None, is_path=True, must_exist=True, often=True)
    """Clip list to convert in place of weights: from text to a file that ends in .parquet, or the
    other way round."""
    list_format: ListFormat = ListFormat.auto
    """Format of the lines of a clip list in text."""
    out: str | None = setting(
        None, is_path=True, example="/path/to/converted.safetensors", often=True
    )
    """File to write; for format=huggingface, the directory to write."""
    target: str | None = setting(None, is_path=True)
    """Earlier name of out."""
    format: WeightsFormat | None = setting(None, example="videomae", often=True)
    """Format of the target. videomae: this project's; official: that of the VideoMAE code;
    huggingface: that of transformers."""
    frames: int | None = None
    """Number of frames of the clips that the weights were trained on; null: as the weights say."""
    size: int | None = None
    """Height and width of the frames that the weights were trained on, in pixels; null: as the
    weights say."""
    stride: int | None = setting(None, at_least=1, often=True)
    """Distance between two frames of the clips that the weights were trained on, in frames of the
    video; null: as the weights say."""
    class_names: str | None = setting(None, is_path=True, often=True)
    """Text file with the names of the classes: line i is the name of class i."""
    head_map: str | None = setting(None, is_path=True)
    """JSON list whose entry i is the row of the weights' head that becomes class i; null: the head
    is kept."""
    overwrite: bool = False
    """Whether what is there already is replaced."""

    def __post_init__(self) -> None:
        check(
            self.out is None or self.target is None,
            f"out={self.out} and target={self.target} are two names of one setting: give out",
        )

    @property
    def place(self) -> str | None:
        """Path to write, by the name that was given; None: neither was."""
        return self.out or self.target

    @property
    def named(self) -> str:
        """Path to write as the user named it, for errors: out=PATH or target=PATH."""
        return f"target={self.target}" if self.out is None else f"out={self.out}"


@dataclass(frozen=True)
class PredictConfig(HeadsConfig):
    """Settings of python -m videomae.predict."""

    run: RunConfig = setting(kw_only=True)
    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """Weights of a fine-tuned classifier, of any released kind."""
    video: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/video.mp4", often=True
    )
    """Video file, or folder whose videos are all used, those of folders inside it included."""
    segments: int = setting(5, at_least=1, often=True)
    """Number of temporal positions of a video's views."""
    crops: int = setting(3, at_least=1, often=True)
    """Number of spatial positions of a video's views."""
    stride: int | None = setting(None, at_least=1, often=True)
    """Distance between two frames of a clip, in frames of the video; null: that of the weights."""
    sampling: Sampling | None = None
    """How the frames of a clip are chosen, dense or segment; null: as the weights were trained, or
    dense where they do not say."""
    class_names: str | None = setting(None, is_path=True, often=True)
    """Text file with the names of the classes: line i is the name of class i; null: the names that
    the weights hold."""
    target: str | None = None
    """Your own head, as package.module:Name, where the weights were fine-tuned with one; null: as
    the weights say."""
    top: int = setting(5, at_least=1)
    """Number of most probable classes that are reported for each video."""
    output: str = setting("predictions.json", is_path=True, often=True)
    """JSON file to write, relative to output_dir."""
    output_dir: str = setting(".", is_path=True, often=True)
    """Output directory of the predictions and of the pictures."""
    sheet: str | None = setting(None, is_path=True)
    """Picture to write of the frames that the model sees, relative to output_dir: NAME.png, or a
    folder for a picture of each video; null: none."""
    decoder: str = "auto"
    """Library that decodes videos: pyav, decord, torchcodec, or package.module:Name; auto: the
    first that is there."""

    @property
    def file(self) -> Path:
        """Path of the JSON file."""
        return Path(self.output_dir) / self.output

    @property
    def pictures(self) -> Path | None:
        """Path of the picture of the frames, or of the folder of pictures; None: none is drawn."""
        return None if self.sheet is None else Path(self.output_dir) / self.sheet

    def __post_init__(self) -> None:
        check_bounds(self)
        check(
            self.target is None or ":" in self.target,
            f"target={self.target} is not of the form package.module:Name: leave it out where the "
            "weights were fine-tuned without code of your own",
        )


@dataclass(frozen=True)
class ExtractConfig(ListedConfig, BothHeadsConfig):
    """Settings of python -m videomae.extract."""

    run: RunConfig = setting(kw_only=True)
    weights: str | None = setting(
        None, is_path=True, example="/path/to/weights.safetensors", often=True
    )
    """Weights to load, of any released kind: of a pre-training, a classifier, or an encoder
    alone."""
    video: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/video.mp4", often=True
    )
    """Video file, or folder whose videos are all used, those of folders inside it included."""
    output_dir: str = setting("outputs/features", is_path=True, often=True)
    """Output directory of the features and of their manifest.jsonl."""
    hop: int | None = setting(None, at_least=1)
    """Distance between the starts of two windows, in frames of the video; null: the length of a
    window, frames x stride."""
    stride: int | None = setting(None, at_least=1, often=True)
    """Distance between two frames of a clip, in frames of the video; null: that of the weights."""
    pool: Pool = setting(Pool.mean, often=True)
    """How tokens are pooled. mean: features (W, D) for the W windows of a video; none: (W, N, D),
    every token."""
    dtype: FeatureType = FeatureType.float32
    """Dtype of the features: float32 or float16."""
    format: FeatureFormat = FeatureFormat.safetensors
    """File format of the features: safetensors or npy."""
    decoder: str = "auto"
    """Library that decodes videos: pyav, decord, torchcodec, or package.module:Name; auto: the
    first that is there."""

    def __post_init__(self) -> None:
        self.check_lines("")
