"""Every setting of every command, its meaning and its checks. Standard library only.

A default lives here or in one file under configs/, never in both: what a recipe, a data set or a
machine decides has no default here and comes from its group.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow"),
)


MAX_CLIP_BYTES = 2**31
"""Memory, in bytes, that reading one clip may take unless a setting says otherwise."""
MIN_CLIP_BYTES = 2**27
"""What that must be at least: reading takes 64 MiB at a time."""


class UserError(ValueError):
    """Something the user can mend. The commands print it in one piece, without a traceback."""


class ConfigError(UserError):
    """A setting, or two settings together, that cannot work."""


def config_dir() -> Path:
    """Where the yaml files are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def _check_seed(seed: int) -> None:
    _check(0 <= seed < 2**63, f"seed must lie in [0, 2**63), got {seed}")


def _check_at_least(least: float, section: str, settings: Mapping[str, float | None]) -> None:
    for name, value in settings.items():
        if value is not None and not value >= least:  # written so that NaN fails too
            raise ConfigError(f"{_key(section, name)} must be at least {least}, got {value}")


def _check_between(low: float, high: float, section: str, settings: Mapping[str, float]) -> None:
    for name, value in settings.items():
        if not low <= value <= high:
            raise ConfigError(f"{_key(section, name)} must lie in [{low}, {high}], got {value}")


def _check_name(name: str) -> None:
    """Check that the directory of a run of that name lies below outputs/."""
    _check(
        not {"", ".", ".."} & set(re.split(r"[/\\]", name)),
        f"name={name} would not lie below outputs/: give a name without .. and without a / at "
        "either end, such as my_run; output_dir= names any directory",
    )


def _key(section: str, name: str) -> str:
    """What the user calls a setting of a section, or of none."""
    return f"{section}.{name}" if section else name


class ListFormat(Enum):
    """What a line of a clip list holds; see videomae.lists.clips."""

    auto = "auto"
    video = "video"
    video_label = "video_label"
    video_start_total = "video_start_total"
    frames_start_total = "frames_start_total"
    frames_total_label = "frames_total_label"


class Sampling(Enum):
    """How the frames of a fine-tuning clip are chosen; see videomae.data.sample."""

    dense = "dense"
    segment = "segment"


class MaskKind(Enum):
    """What hides tokens from the encoder; see videomae.data.mask."""

    tube = "tube"
    random = "random"


class Positions(Enum):
    """The table that tells tokens apart; see videomae.model.positions."""

    sincos_1d = "sincos_1d"
    sincos_3d = "sincos_3d"
    learned = "learned"


class CropKind(Enum):
    """How a training crop is chosen; see videomae.data.augment."""

    multi_scale = "multi_scale"
    random_resized = "random_resized"


class Precision(Enum):
    """auto: bf16 autocast on CUDA devices that have it, float32 elsewhere.

    fp16: as VideoMAE's own code tests; for evaluate and predict alone.
    """

    auto = "auto"
    float32 = "float32"
    bf16 = "bf16"
    fp16 = "fp16"


class Device(Enum):
    """auto: the process's own CUDA device where there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Sharding(Enum):
    """How several processes hold the model; see videomae.train.sharding. With one process they are
    all the same."""

    auto = "auto"
    none = "none"
    ddp = "ddp"
    fsdp = "fsdp"
    hsdp = "hsdp"


class GradientType(Enum):
    """Floats of gradients on their way between processes."""

    float32 = "float32"
    bf16 = "bf16"


class AttentionBackend(Enum):
    """An implementation of attention, as torch.nn.attention.SDPBackend names them.

    auto: whichever is fastest where it is measured; torch: whichever torch takes.
    """

    auto = "auto"
    torch = "torch"
    flash = "flash"
    cudnn = "cudnn"
    efficient = "efficient"
    math = "math"


class Recompute(Enum):
    """What the backward pass computes again, in order to keep less of the forward pass.

    selective: all but matrix products and attention; full: each block from its input.
    """

    none = "none"
    selective = "selective"
    full = "full"


class WhichWeights(Enum):
    """last: of the last step; best: of the evaluation with the best top-1 on data.val_list."""

    last = "last"
    best = "best"


class WeightsFormat(Enum):
    """How weights are written; see videomae.weights.formats."""

    videomae = "videomae"
    official = "official"
    huggingface = "huggingface"


class Dataset(Enum):
    """What prepare makes lists of; see videomae.lists.annotations."""

    ucf101 = "ucf101"
    hmdb51 = "hmdb51"
    k400 = "k400"
    k600 = "k600"
    k710 = "k710"
    ssv2 = "ssv2"
    folders = "folders"
    csv = "csv"


class Scan(Enum):
    """How prepare looks for damaged videos."""

    off = "off"
    quick = "quick"
    strict = "strict"


class ProbeKind(Enum):
    """What is fitted on frozen features; see videomae.evaluation.probes."""

    knn = "knn"
    linear = "linear"
    attentive = "attentive"


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
class ModelConfig:
    """A vision transformer over tubelets, and the decoder that pre-training adds to it."""

    name: str
    """The preset's name, for people."""
    dim: int
    """Width of the encoder."""
    depth: int
    """Blocks of the encoder."""
    heads: int
    """Attention heads of the encoder."""
    mlp_dim: int
    """Hidden width of the encoder's MLPs."""
    patch: int
    """Side of a tubelet, in pixels."""
    decoder_dim: int
    """Width of the decoder."""
    decoder_heads: int
    """Attention heads of the decoder."""
    decoder_mlp_dim: int
    """Hidden width of the decoder's MLPs."""
    decoder_depth: int = 4
    """Blocks of the decoder."""
    tubelet: int = 2
    """Frames of a tubelet."""
    norm_eps: float = 1e-6
    """Epsilon of the blocks' LayerNorms and of the one after the encoder."""
    decoder_norm_eps: float = 1e-6
    """Epsilon of the LayerNorm after the decoder."""
    fc_norm_eps: float = 1e-6
    """Epsilon of a classifier's LayerNorm before the head."""
    positions: Positions = Positions.sincos_1d
    """sincos_1d: over the token's number, as in all released models; sincos_3d: over its place;
    learned: the encoder's are parameters."""
    position_grid: list[int] | None = None
    """Tokens (time, height, width) that the fixed positions are made for; a clip of other tokens
    sees them interpolated. null: those of the clip, or of the starting weights."""
    normalise_targets: bool = True
    """Whether the decoder predicts pixels normalised within their tubelet, or plain ones."""

    def __post_init__(self) -> None:
        whole = {key: value for key, value in vars(self).items() if type(value) is int}
        _check_at_least(1, "model", whole)
        for name in ("norm_eps", "decoder_norm_eps", "fc_norm_eps"):
            value = getattr(self, name)
            _check(value > 0, f"model.{name} must be more than 0, got {value}")
        grid = self.position_grid
        _check(
            grid is None or (len(grid) == 3 and min(grid) >= 1),
            f"model.position_grid must be three numbers of tokens, such as [8,14,14], got {grid}",
        )
        _check(
            grid is None or self.positions is not Positions.learned,
            "model.position_grid is for fixed positions: leave it out with model.positions=learned",
        )
        for dim, heads in (("dim", "heads"), ("decoder_dim", "decoder_heads")):
            _check(
                getattr(self, dim) % getattr(self, heads) == 0,
                f"model.{dim}={getattr(self, dim)} is not a multiple of "
                f"model.{heads}={getattr(self, heads)}",
            )
            _check(
                getattr(self, dim) % 2 == 0,
                f"model.{dim}={getattr(self, dim)} must be even: positions are sine-cosine pairs",
            )


@dataclass(frozen=True)
class ClipConfig:
    """What the model sees of one video."""

    frames: int
    """Frames per clip."""
    stride: int
    """Source frames from one sampled frame to the next."""
    size: int
    """Height of what the model sees, in pixels, and its width where that is not given."""
    width: int | None = None
    """Width of what the model sees, in pixels; null: as high as wide."""

    def __post_init__(self) -> None:
        _check_at_least(1, "data.clip", vars(self))
        for name in ("frames", "size", "width"):
            value = getattr(self, name) or 0
            _check(
                value <= MOST_TOKENS, f"data.clip.{name} must be at most {MOST_TOKENS}, got {value}"
            )

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.size, self.size if self.width is None else self.width

    def __str__(self) -> str:
        height, width = self.frame
        return f"{self.frames} frames of {height} x {width} px"


@dataclass(frozen=True)
class ListConfig:
    """A training list, where its videos are, and what its lines mean."""

    train_list: str | None = None
    """Clip list to train on."""
    root: str | None = None
    """Folder that the paths of the lists are relative to."""
    list_format: ListFormat = ListFormat.auto
    """What a line of the lists holds."""
    frame_template: str | None = None
    """File name of one frame of a frame folder, such as "img_{:05}.jpg"."""
    first_frame: int = 1
    """Number of a frame folder's first frame, where the list does not say."""


@dataclass(frozen=True)
class SourceConfig(ListConfig):
    """One of several lists that are trained on together."""

    stride: int | None = None
    """Source frames from one sampled frame to the next; null: data.clip.stride."""


@dataclass(frozen=True)
class DataConfig(ListConfig):
    """A data set: its lists, its clips, its classes, and how it is tested."""

    clip: ClipConfig = field(kw_only=True)
    """What the model sees of one video."""
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """Several training lists in place of train_list and root, by any name (pre-training). A key
    sets, and adds: data.sources.NAME.train_list=FILE; '~data.sources.NAME' leaves one out."""
    val_list: str | None = None
    """Clip list on which the best weights of a fine-tuning are chosen; see eval_every."""
    test_list: str | None = None
    """Clip list to evaluate on (fine-tuning and evaluation)."""
    prepared: str | None = None
    """Directory that python -m videomae.prepare wrote. It gives the lists, root, class_names and
    classes that are null here."""
    split: str | None = None
    """Which split of the prepared directory, 1 2 ...; null where the data set has one only. all:
    every one in turn, and their mean (fine-tuning and evaluation)."""
    num_train: int | None = None
    """Videos of the published training list (null: unknown); a list of another length is said at
    the start."""
    sampling: Sampling = Sampling.dense
    """dense: one window of frames x stride; segment: one frame from each of `frames` parts."""
    classes: int | None = None
    """How many classes the labels have (fine-tuning and evaluation)."""
    class_names: str | None = None
    """Text file, line i = name of class i. Without it classes go by their number."""
    hflip: bool = False
    """Whether a mirrored video keeps its class. Pre-training never mirrors."""
    repeats: int = 1
    """Views drawn from one decoded video."""
    segments: int = 5
    """Temporal positions of a test video's views."""
    crops: int = 3
    """Spatial positions of a test video's views."""
    decoder: str = "auto"
    """pyav, decord or torchcodec; auto: the first of them that is there."""
    align_starts: bool = True
    """On a pack whose stride divides data.clip.stride, pre-training's clips start on multiples of
    the pack's stride, where they decode fastest. Plain files have none, nor has fine-tuning."""
    max_clip_bytes: int = MAX_CLIP_BYTES
    """Bytes of memory that reading one clip may take; a video that needs more is a bad file. Frames
    are read and shrunk a few at a time, so that 1080p takes some 100 MB and 8K less than 1 GB."""
    timeout_s: float = 120.0
    """Seconds that decoding one video may take. A decoding process that takes longer, or dies, is
    started anew; the video that this happens to twice running is a bad file."""
    max_bad_fraction: float = 0.01
    """Training stops when more than this share of the files tried so far, and more than one file,
    cannot be read."""

    def __post_init__(self) -> None:
        counts = ("repeats", "segments", "crops", "num_train")
        _check_at_least(1, "data", {name: getattr(self, name) for name in counts})
        _check_at_least(MIN_CLIP_BYTES, "data", {"max_clip_bytes": self.max_clip_bytes})
        _check(self.timeout_s > 0, f"data.timeout_s must be above 0, got {self.timeout_s}")
        _check_at_least(2, "data", {"classes": self.classes})
        _check_between(0, 1, "data", {"max_bad_fraction": self.max_bad_fraction})
        _check(
            self.split is None or self.prepared is not None,
            f"data.split={self.split} is a split of a prepared directory: give data.prepared=DIR, "
            "written by python -m videomae.prepare",
        )
        _check_list("data.", self)
        for name, source in self.sources.items():
            _check_list(f"data.sources.{name}.", source)
            _check_at_least(1, f"data.sources.{name}", {"stride": source.stride})
        _check(
            not self.sources or (self.train_list is None and self.root is None),
            f"data.train_list={self.train_list} and data.root={self.root} have no place beside "
            f"data.sources ({', '.join(self.sources)}): leave both at null, and give each source "
            "its own, data.sources.NAME.train_list and data.sources.NAME.root",
        )

    def parts(self) -> dict[str, "DataConfig"]:
        """Each training list as a data set of its own, by the section of the config it stands in.

        That is {"data": self}, or one of every source, as "data.sources.NAME", in their order.
        """
        if not self.sources:
            return {"data": self}
        return {
            f"data.sources.{name}": replace(
                self,
                sources={},
                clip=replace(self.clip, stride=source.stride or self.clip.stride),
                **{each.name: getattr(source, each.name) for each in fields(ListConfig)},
            )
            for name, source in self.sources.items()
        }


def _check_scanning(workers: int | None, timeout_s: float, max_clip_bytes: int) -> None:
    _check(workers is None or workers >= 1, f"workers must be at least 1, got {workers}")
    _check(timeout_s > 0, f"timeout_s must be more than 0, got {timeout_s}")
    _check_at_least(MIN_CLIP_BYTES, "", {"max_clip_bytes": max_clip_bytes})


def is_template(text: str) -> bool:
    """Whether a text makes names of a number, of less than a hundred characters each."""
    place = r"\{0?(?::[^{}\d]{0,2}\d{0,2}d?)?\}"
    plain = r"(?:[^{}]|\{\{|\}\})*"
    if not re.fullmatch(plain + place + plain, text):
        return False
    try:
        return text.format(1) != text.format(2)
    except ValueError:
        return False


def _check_list(prefix: str, config: "ListConfig | ScanConfig | DoctorConfig") -> None:
    _check(
        config.first_frame >= 0,
        f"{prefix}first_frame must be at least 0, got {config.first_frame}",
    )
    if config.frame_template is not None:
        _check(
            is_template(config.frame_template),
            f"{prefix}frame_template must hold one place for the frame's number, such as "
            f'"img_{{:05}}.jpg"; got {config.frame_template!r}',
        )
    if config.list_format in (ListFormat.frames_start_total, ListFormat.frames_total_label):
        _check(
            config.frame_template is not None,
            f"{prefix}list_format={config.list_format.name} lists folders of frames: "
            f"set {prefix}frame_template, for example "
            f"'{prefix}frame_template=\"img_{{:05}}.jpg\"'",
        )


@dataclass(frozen=True)
class MaskConfig:
    """What the encoder does not see, and what the decoder need not rebuild."""

    kind: MaskKind
    """tube: the same places in every time step; random: any tokens."""
    ratio: float
    """Share of the tokens hidden from the encoder (rounded down)."""
    decoder_ratio: float
    """Share of the tokens dropped for the decoder by the running cell: 0.25, 0.5 or 0.75.
    0: none is dropped, the decoder rebuilds all that the encoder did not see."""

    def __post_init__(self) -> None:
        _check(0 < self.ratio < 1, f"mask.ratio must lie in (0, 1), got {self.ratio}")
        _check(
            self.decoder_ratio in (0, 0.25, 0.5, 0.75),
            "mask.decoder_ratio must be 0, 0.25, 0.5 or 0.75 (a running cell holds four tokens), "
            f"got {self.decoder_ratio}",
        )


@dataclass(frozen=True)
class AugmentConfig:
    """How a training view is cut from the frames."""

    crop: CropKind
    """multi_scale: pre-training's; random_resized: fine-tuning's."""
    antialias: bool
    """Whether shrinking averages over the source pixels. The reference does so in pre-training."""
    scales: list[float] = field(default_factory=lambda: [1.0, 0.875, 0.75, 0.66])
    """multi_scale: sides of the crop as shares of the frame's short side, largest first."""
    area: list[float] = field(default_factory=lambda: [0.08, 1.0])
    """random_resized: least and most area of the crop, as shares of the frame's."""
    aspect: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])
    """random_resized: least and most width over height of the crop."""
    rand_ops: int = 0
    """RandAugment: operations drawn for each view; 0: none."""
    rand_prob: float = 0.5
    """RandAugment: chance of each of them to be done."""
    rand_level: float = 7.0
    """RandAugment: mean of their level, from 0 to 10."""
    rand_spread: float = 0.5
    """RandAugment: standard deviation of the level."""
    mixup: float = 0.0
    """Mixup: both parameters of the beta distribution of a view's own weight; 0: none."""
    cutmix: float = 0.0
    """CutMix: likewise, of the share of a view's own area; 0: none."""
    mix_prob: float = 1.0
    """Chance of a block of videos to be mixed."""
    switch_prob: float = 0.5
    """Chance of CutMix where both are on."""
    mix_block: int = 2
    """Videos that are mixed at one strength; the most up to this that divide the global batch. Of
    an even number each is mixed with a neighbour; of an odd one the middle video's views are mixed
    with each other. 1: the views of each video."""
    erase_prob: float = 0.0
    """Random erasing: chance of each view."""
    erase_area: list[float] = field(default_factory=lambda: [0.02, 1 / 3])
    """Random erasing: least and most area, as shares of the frame's."""
    erase_aspect: list[float] = field(default_factory=lambda: [0.3, 1 / 0.3])
    """Random erasing: least and most height over width."""

    def __post_init__(self) -> None:
        _check(
            len(self.scales) > 0
            and all(0 < scale <= 1 for scale in self.scales)
            and self.scales == sorted(self.scales, reverse=True),
            f"augment.scales must be numbers in (0, 1], largest first, got {self.scales}",
        )
        _check_at_least(0, "augment", {"rand_ops": self.rand_ops, "rand_spread": self.rand_spread})
        _check_at_least(0, "augment", {"mixup": self.mixup, "cutmix": self.cutmix})
        _check_at_least(1, "augment", {"mix_block": self.mix_block})
        _check_between(0, 10, "augment", {"rand_level": self.rand_level})
        chances = ("rand_prob", "mix_prob", "switch_prob", "erase_prob")
        _check_between(0, 1, "augment", {name: getattr(self, name) for name in chances})
        infinity = float("inf")
        ranges = {"area": 1.0, "aspect": infinity, "erase_area": 1.0, "erase_aspect": infinity}
        for name, high in ranges.items():
            bounds = getattr(self, name)
            _check(
                len(bounds) == 2 and 0 < bounds[0] <= bounds[1] <= high,
                f"augment.{name} must be two numbers, least and most, in (0, {high}], got {bounds}",
            )


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, its schedule and its regularisation."""

    global_batch: int
    """Videos per optimiser step, over all processes and micro-batches; repeats not counted."""
    base_lr: float
    """Peak learning rate per 256 videos; the rate used is base_lr * global_batch / 256."""
    min_lr: float
    """Where the cosine ends, per 256 videos."""
    betas: list[float]
    """AdamW's two averaging factors."""
    epochs: int
    """Passes over the list; the schedule always spans them all."""
    warmup_epochs: float
    """Passes during which the rate rises from 0."""
    weight_decay: float = 0.05
    """For matrices only: biases, norms and the mask token are not decayed."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    clip_grad: float | None = None
    """Largest gradient norm; null: not clipped."""
    layer_decay: float = 1.0
    """Each block's rate as a share of the rate of the block above it."""
    drop_path: float = 0.0
    """Chance that the last block's branches are skipped for a view; rises linearly with depth."""
    head_drop: float = 0.0
    """Dropout before the classifier's head."""
    label_smoothing: float = 0.0
    """Share of the label's probability that is spread over all classes."""
    ema_decay: float | None = None
    """Decay per step of a running mean of the weights, which is what is evaluated and written then;
    null: none."""

    def __post_init__(self) -> None:
        _check_at_least(1, "optim", {"global_batch": self.global_batch, "epochs": self.epochs})
        _check(
            self.clip_grad is None or self.clip_grad > 0,
            f"optim.clip_grad must be more than 0, or null for no clipping; got {self.clip_grad}",
        )
        rates = ("base_lr", "min_lr", "warmup_epochs", "weight_decay", "eps")
        _check_at_least(0, "optim", {name: getattr(self, name) for name in rates})
        shares = ("drop_path", "head_drop", "label_smoothing")
        _check_between(0, 1, "optim", {name: getattr(self, name) for name in shares})
        _check(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            f"optim.ema_decay must lie in (0, 1), or be null for none; got {self.ema_decay}",
        )
        _check(
            0 < self.layer_decay <= 1,
            f"optim.layer_decay must lie in (0, 1], got {self.layer_decay}",
        )
        _check(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"optim.betas must be two numbers in [0, 1), got {self.betas}",
        )
        _check(
            self.warmup_epochs <= self.epochs,
            f"optim.warmup_epochs={self.warmup_epochs} is more than optim.epochs={self.epochs}",
        )


AUTO = "auto"
"""Of a number: to be found out."""
UNTRAINED = 8
"""Videos at once in evaluations where run.device_batch=auto."""


@dataclass(frozen=True)
class RunConfig:
    """The hardware, and how often things are written.

    It decides how numbers are rounded, and which units drop path drops; nothing else is learned.
    """

    device: Device = Device.auto
    """Where the model is."""
    precision: Precision = Precision.auto
    """Arithmetic of the matrix products; weights, loss and targets are always float32. fp16 is for
    evaluate and predict alone."""
    sharding: Sharding = Sharding.auto
    """How several processes hold the model. ddp: each a whole one; fsdp: each a part of every
    parameter; hsdp: the same within groups of run.shards processes, which are copies of each other.
    auto: ddp for ViT-L and smaller; else fsdp on one machine, hsdp on several. none: several
    processes are an error."""
    shards: int | None = None
    """Processes that hold one model between them (hsdp); null: those of one machine."""
    reduce_dtype: GradientType = GradientType.float32
    """Floats in which gradients are added up over the processes. bf16: half as much travels, and
    the sums are rounded to three digits."""
    recompute: Recompute = Recompute.none
    """What is computed again in the backward pass of each block, so that less is kept in memory:
    none; selective: all but matrix products and attention; full: the whole block."""
    attention: AttentionBackend = AttentionBackend.auto
    """Which implementation computes attention. auto: on GPUs each is tried at the start, for the
    encoder and for the decoder, and the fastest is taken; on CPUs torch's own choice."""
    device_batch: int | str = 16
    """Most videos per device and micro-batch; the largest divisor that fits is taken. auto: as many
    as the memory takes, measured when training begins, and kept in config.yaml for a restart."""
    workers: int | None = None
    """Decoding processes per training process; null: its share of the cores, less two on GPUs, half
    of it on CPUs."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    image_every: int = 1000
    """Steps between two reconstruction images in TensorBoard (pre-training); 0: none."""
    compile: bool = False
    """Compile each transformer block (torch.compile) when training begins, which takes minutes on a
    GPU and needs a C++ compiler on a CPU. Evaluations run as they are."""
    float8: bool = False
    """Matrix products of the blocks in float8 (pip install "videomae[float8]"), for Hopper and
    later, with run.compile=true; on CPUs emulated. Evaluations and weights are as without it."""
    profile: bool = False
    """Write profile/trace.json: what a few early steps did when, for https://ui.perfetto.dev."""
    wandb: str | None = None
    """Project of Weights & Biases that gets the metrics too (pip install wandb); null: none."""
    checkpoint_every: int | None = 1000
    """Steps between two checkpoints; null: run.checkpoint_every_min alone decides."""
    checkpoint_every_min: float | None = None
    """Minutes between two checkpoints, by the main process's clock; null: steps alone decide. Where
    both are given, whichever comes first."""
    background_checkpoints: bool | None = None
    """Whether training goes on while a checkpoint is written, from a copy in the CPU's memory;
    null: on GPUs."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""
    stall_timeout_s: float = 1800.0
    """Seconds that a step may take. A process that takes longer, as when another hangs, says where
    it is and ends, so that a launcher can start all again. Evaluations may take longer."""
    max_nonfinite: int = 3
    """Training stops after this many steps in a row without a finite gradient."""

    @property
    def untrained_batch(self) -> int:
        """Videos at once where nothing is trained, and so little memory is needed."""
        return UNTRAINED if isinstance(self.device_batch, str) else self.device_batch

    def __post_init__(self) -> None:
        _check(
            not isinstance(self.device_batch, str) or self.device_batch == AUTO,
            f"run.device_batch must be a number or {AUTO}, got {self.device_batch!r}",
        )
        _check(
            self.shards is None or self.sharding in (Sharding.auto, Sharding.hsdp),
            f"run.shards={self.shards} is for run.sharding=hsdp, not {self.sharding.name}",
        )
        _check(
            self.stall_timeout_s > 0,
            f"run.stall_timeout_s must be above 0, got {self.stall_timeout_s}",
        )
        _check(
            self.checkpoint_every is not None or self.checkpoint_every_min is not None,
            "run.checkpoint_every and run.checkpoint_every_min are both null: give one of them",
        )
        _check(
            self.checkpoint_every_min is None or self.checkpoint_every_min > 0,
            f"run.checkpoint_every_min must be above 0, got {self.checkpoint_every_min}",
        )
        may_be_zero = {"workers": self.workers, "image_every": self.image_every}
        _check_at_least(0, "run", may_be_zero)
        counts = {key: value for key, value in vars(self).items() if type(value) is int}
        _check_at_least(1, "run", {key: counts[key] for key in counts.keys() - may_be_zero.keys()})


@dataclass(frozen=True)
class TrainConfig:
    """What pre-training and fine-tuning have in common."""

    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig
    optim: OptimConfig
    run: RunConfig
    name: str = "unnamed"
    """The run's name; every exp sets one."""
    output_dir: str = "outputs/${name}"
    """Where the run writes; see "The run directory" in the README."""
    seed: int = 0
    """Everything random follows from it."""
    max_steps: int | None = None
    """Stop after this step, with a checkpoint; the schedule stays that of optim.epochs."""
    resume: str = "never"
    """never: start anew; auto: go on from the newest checkpoint, if any; or a checkpoint's path."""
    overwrite: bool = False
    """Let a new run replace the one that output_dir already holds."""
    weights: str | None = None
    """Starting weights of any released kind: see "Bring your own weights" in the README."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_seed(self.seed)
        _check(
            self.max_steps is None or self.max_steps >= 1,
            f"max_steps must be at least 1, got {self.max_steps}",
        )
        token_grid(self.model, self.data.clip)


@dataclass(frozen=True)
class EpochProbeConfig(ListConfig):
    """The k-NN probe of a pre-training under way; what is learned does not depend on it."""

    every_epochs: int = 0
    """Epochs between two probes; 0: none."""
    test_list: str | None = None
    """Labelled clip list that is classified; the neighbours are those of probe.train_list."""
    classes: int | None = None
    """How many classes the labels have."""
    k: int = 20
    """Neighbours that vote."""

    def __post_init__(self) -> None:
        _check_at_least(0, "probe", {"every_epochs": self.every_epochs})
        _check_at_least(1, "probe", {"k": self.k})
        _check_at_least(2, "probe", {"classes": self.classes})
        _check_list("probe.", self)


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """python -m videomae.pretrain"""

    mask: MaskConfig = field(kw_only=True)
    probe: EpochProbeConfig = field(default_factory=EpochProbeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mask(self.mask, token_grid(self.model, self.data.clip))
        _check(
            not self.data.hflip,
            "data.hflip must be false in pre-training, which never mirrors: give data.hflip=false",
        )
        idle = {
            "optim": ("drop_path", "head_drop", "label_smoothing", "ema_decay"),
            "augment": ("rand_ops", "mixup", "cutmix", "erase_prob"),
        }
        for section, names in idle.items():
            for name in names:
                _check(
                    not getattr(getattr(self, section), name),
                    f"{section}.{name} has no meaning in pre-training; leave it at its default",
                )


@dataclass(frozen=True)
class FinetuneConfig(TrainConfig):
    """python -m videomae.finetune"""

    head_map: str | None = None
    """JSON list: which row of the weights' head becomes class i; null: the head is kept or new."""
    eval_every: int = 0
    """Epochs between two evaluations on data.val_list, one centre view of each video; 0: none."""
    test_weights: WhichWeights = WhichWeights.last
    """Which weights are evaluated on data.test_list in the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(
            not self.data.sources,
            f"data.sources ({', '.join(self.data.sources)}) are for pre-training: choose a "
            "labelled data set, such as data=k400, and give data.train_list and data.root",
        )
        _check(self.eval_every >= 0, f"eval_every must be at least 0, got {self.eval_every}")
        _check(
            self.eval_every > 0 or self.test_weights is WhichWeights.last,
            "test_weights=best needs eval_every=1, or more, and data.val_list to choose them on",
        )


@dataclass(frozen=True)
class EvaluateConfig(FinetuneConfig):
    """python -m videomae.evaluate: takes every fine-tuning exp, and ignores how it trains."""

    output_dir: str = "outputs/${name}/evaluation"


class Stage(Enum):
    """The two kinds of training."""

    pretrain = "pretrain"
    finetune = "finetune"


@dataclass(frozen=True)
class RecipesConfig:
    """python -m videomae.recipes"""

    stage: Stage | None = None
    """Only the exps of this command: pretrain or finetune; null: all."""
    match: str = ""
    """Only the exps whose names hold this."""


@dataclass(frozen=True)
class DoctorConfig:
    """python -m videomae.doctor"""

    list: str | None = None
    """Clip list whose first videos are decoded."""
    root: str | None = None
    """Folder that the paths of the list are relative to."""
    first: int = 20
    """How many of its videos."""
    list_format: ListFormat = ListFormat.auto
    """What a line of the list holds."""
    frame_template: str | None = None
    """File name of one frame of a frame folder, such as "img_{:05}.jpg"."""
    first_frame: int = 1
    """Number of a frame folder's first frame, where the list does not say."""

    def __post_init__(self) -> None:
        _check(self.first >= 1, f"first must be at least 1, got {self.first}")
        _check_list("", self)


@dataclass(frozen=True)
class ReconstructConfig:
    """python -m videomae.reconstruct"""

    weights: str | None = None
    """Pre-trained weights of any released kind."""
    num_heads: int | None = None
    """Attention heads of the encoder; null: as the weights or the presets say."""
    decoder_num_heads: int | None = None
    """Attention heads of the decoder, likewise."""
    video: str | None = None
    """Any video file."""
    output: str = "reconstruction.png"
    """The picture that is written."""
    mask_kind: MaskKind | None = None
    """tube or random; null: as the weights were trained."""
    mask_ratio: float | None = None
    """Share hidden from the encoder; null: as the weights were trained."""
    start: int | None = None
    """First source frame; null: the clip in the middle of the video."""
    stride: int | None = None
    """Source frames from one sampled frame to the next; null: that of the pre-training."""
    seed: int = 0
    """Draws the mask."""
    run: RunConfig = field(default_factory=RunConfig)
    decoder: str = "auto"
    """pyav, decord or torchcodec; auto: the first of them that is there."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        ratio = self.mask_ratio
        _check(ratio is None or 0 < ratio < 1, f"mask_ratio must lie in (0, 1), got {ratio}")
        for name, least in (("start", 0), ("stride", 1)):
            value = getattr(self, name)
            _check(value is None or value >= least, f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class ConvertConfig:
    """python -m videomae.convert"""

    weights: str | None = None
    """What is converted: weights of any released kind."""
    target: str | None = None
    """The file that is written; with format=huggingface, the directory."""
    format: WeightsFormat | None = None
    """videomae: this project's; official: of the VideoMAE code; huggingface: of transformers."""
    num_heads: int | None = None
    """Attention heads of the encoder; null: as the weights or the presets say."""
    decoder_num_heads: int | None = None
    """Attention heads of the decoder, likewise."""
    frames: int | None = None
    """Frames per clip the weights were trained on; null: as they say."""
    size: int | None = None
    """Side of the frames the weights were trained on, in pixels; null: as they say."""
    stride: int | None = None
    """Source frames between two frames of a clip; null: as the weights say."""
    class_names: str | None = None
    """Text file, line i = name of class i."""
    head_map: str | None = None
    """JSON list: which row of the weights' head becomes class i; null: all of them."""
    overwrite: bool = False
    """Replace the target."""


@dataclass(frozen=True)
class ProbesConfig:
    """What is fitted on the features of a frozen encoder, and how."""

    kinds: list[ProbeKind] = field(default_factory=lambda: list(ProbeKind))
    """Any of knn, linear, attentive."""
    views: int = 1
    """Views of a training video, evenly spaced in time; of a test video the middle one is taken."""
    k: int = 20
    """knn: neighbours that vote."""
    temperature: float = 0.07
    """knn: a neighbour's vote weighs exp(cosine similarity / temperature)."""
    lrs: list[float] = field(default_factory=lambda: [1e-4, 3e-4, 1e-3, 3e-3, 1e-2])
    """Learning rates that are tried; the best on a held-out fifth of the training list is taken."""
    linear_epochs: int = 100
    """Passes of the linear probe over the training features."""
    attentive_epochs: int = 20
    """Likewise of the attentive one."""
    min_steps: int = 1000
    """A short training list is passed over more often, until there are so many steps."""
    batch: int = 64
    """Views per step."""
    weight_decay: float = 0.01
    """Of AdamW."""

    def __post_init__(self) -> None:
        names = ("views", "k", "linear_epochs", "attentive_epochs", "min_steps", "batch")
        _check_at_least(1, "probe", {name: getattr(self, name) for name in names})
        _check_at_least(0, "probe", {"weight_decay": self.weight_decay})
        _check(
            self.temperature > 0, f"probe.temperature must be more than 0, got {self.temperature}"
        )
        _check(
            len(self.lrs) > 0 and min(self.lrs) > 0,
            f"probe.lrs must be rates above 0, at least one, got {self.lrs}",
        )
        _check(
            len(self.kinds) > 0,
            f"probe.kinds must name at least one of {', '.join(kind.name for kind in ProbeKind)}",
        )


@dataclass(frozen=True)
class ProbeConfig:
    """python -m videomae.probe"""

    model: ModelConfig
    data: DataConfig
    run: RunConfig
    probe: ProbesConfig = field(default_factory=ProbesConfig)
    weights: str | None = None
    """Weights of any released kind; scratch: a random encoder, as model= says."""
    num_heads: int | None = None
    """Attention heads of the encoder; null: as the weights or the presets say."""
    decoder_num_heads: int | None = None
    """Attention heads of the decoder, likewise."""
    name: str = "probe"
    """The result's name."""
    output_dir: str = "outputs/${name}"
    """Where results.json and the features are written."""
    seed: int = 0
    """Draws the held-out fifth, the order of the features and the new heads."""
    overwrite: bool = False
    """Replace the results that output_dir holds; its features are kept."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_seed(self.seed)


@dataclass(frozen=True)
class PredictConfig:
    """python -m videomae.predict"""

    run: RunConfig
    weights: str | None = None
    """A fine-tuned classifier of any released kind."""
    num_heads: int | None = None
    """Attention heads of the encoder; null: as the weights or the presets say."""
    video: str | None = None
    """A video file, or a folder: every video below it."""
    segments: int = 5
    """Temporal positions of a video's views."""
    crops: int = 3
    """Spatial positions of a video's views."""
    stride: int | None = None
    """Source frames from one sampled frame to the next; null: that of the weights."""
    sampling: Sampling | None = None
    """dense or segment; null: as the weights say that they were trained, else dense."""
    class_names: str | None = None
    """Text file, line i = name of class i; null: the names that the weights hold."""
    top: int = 5
    """Classes that are told of each video."""
    output: str = "predictions.json"
    """What is written."""
    sheet: str | None = None
    """Picture of the frames that the model saw: NAME.png, or a folder for one of each video."""
    decoder: str = "auto"
    """pyav, decord or torchcodec; auto: the first of them that is there."""

    def __post_init__(self) -> None:
        for name in ("segments", "crops", "stride", "top"):
            value = getattr(self, name)
            _check(value is None or value >= 1, f"{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class ExtractConfig:
    """python -m videomae.extract"""

    run: RunConfig
    weights: str | None = None
    """Weights of any released kind: of a pre-training, a classifier, or an encoder alone."""
    num_heads: int | None = None
    """Attention heads of the encoder; null: as the weights or the presets say."""
    decoder_num_heads: int | None = None
    """Attention heads of the decoder, likewise."""
    video: str | None = None
    """A video file, or a folder: every video below it."""
    list: str | None = None
    """A clip list, with or without labels, in place of video."""
    root: str | None = None
    """Folder that the paths of the list are relative to."""
    list_format: ListFormat = ListFormat.auto
    """What a line of the list holds."""
    frame_template: str | None = None
    """File name of one frame of a frame folder, such as "img_{:05}.jpg"."""
    first_frame: int = 1
    """Number of a frame folder's first frame, where the list does not say."""
    output_dir: str = "outputs/features"
    """Where the features and their manifest.jsonl are written."""
    hop: int | None = None
    """Source frames from one window to the next; null: a window, frames x stride."""
    stride: int | None = None
    """Source frames from one sampled frame to the next; null: that of the weights."""
    pool: Pool = Pool.mean
    """mean: (W, D) for the W windows of a video; none: (W, N, D), every token."""
    dtype: FeatureType = FeatureType.float32
    """float32 or float16."""
    format: FeatureFormat = FeatureFormat.safetensors
    """safetensors or npy."""
    decoder: str = "auto"
    """pyav, decord or torchcodec; auto: the first of them that is there."""

    def __post_init__(self) -> None:
        for name in ("hop", "stride"):
            value = getattr(self, name)
            _check(value is None or value >= 1, f"{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class PrepareConfig:
    """python -m videomae.prepare"""

    dataset: Dataset | None = None
    """ucf101 hmdb51 k400 k600 k710 ssv2; your own: folders (one per class), csv (path,class)."""
    videos: str | None = None
    """Folder below which the videos lie, or folders of extracted frames."""
    annotations: str | None = None
    """Folder of the official annotation files; with dataset=csv the file."""
    out: str | None = None
    """Directory that is written: lists, classes.txt, prepared.json, problems.jsonl."""
    scan: Scan = Scan.off
    """Leave damaged videos out: quick reads three frames of each, strict decodes all of them."""
    workers: int | None = None
    """Processes of a scan; null: one per core."""
    timeout_s: float = 600.0
    """A video that takes longer to scan is left out."""
    max_clip_bytes: int = MAX_CLIP_BYTES
    """Bytes of memory that scanning a video may take; one that needs more is left out."""
    val_groups: int = 0
    """ucf101: groups of every class (of its 18 training ones) that are moved from train to val."""
    val_fraction: float = 0.0
    """folders, csv: share of each class's training videos that is moved to val."""
    test_fraction: float = 0.0
    """folders, csv: share of each class's training videos that is moved to test."""
    seed: int = 0
    """Chooses what is moved."""
    strict: bool = False
    """Counts that are not the published ones are an error."""
    overwrite: bool = False
    """Replace the lists that out holds."""

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        _check_scanning(self.workers, self.timeout_s, self.max_clip_bytes)
        custom = self.dataset in (Dataset.folders, Dataset.csv)
        moved = {"val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
        for name, value in moved.items():
            _check(0 <= value < 1, f"{name} must lie in [0, 1), got {value}")
            _check(value == 0 or custom, f"{name}={value} is for dataset=folders and dataset=csv")
        _check(sum(moved.values()) < 1, f"{moved} leave no training videos")
        _check(self.val_groups >= 0, f"val_groups must be at least 0, got {self.val_groups}")
        _check(
            self.val_groups == 0 or self.dataset is Dataset.ucf101,
            f"val_groups={self.val_groups} is for dataset=ucf101, whose videos come in groups",
        )
        _check(
            self.annotations is None or self.dataset is not Dataset.folders,
            f"annotations={self.annotations}: dataset=folders has none: a folder is a class",
        )


@dataclass(frozen=True)
class ScanConfig:
    """python -m videomae.scan"""

    list: str | None = None
    """Clip list whose videos are decoded."""
    root: str | None = None
    """Folder that the paths of the list are relative to."""
    out: str | None = None
    """Directory that is written: scan.parquet, clean.txt, progress.jsonl."""
    list_format: ListFormat = ListFormat.auto
    """What a line of the list holds."""
    frame_template: str | None = None
    """File name of one frame of a frame folder, such as "img_{:05}.jpg"."""
    first_frame: int = 1
    """Number of a frame folder's first frame, where the list does not say."""
    workers: int | None = None
    """Decoding processes; null: one per core."""
    timeout_s: float = 600.0
    """A video that takes longer is recorded as damaged."""
    max_clip_bytes: int = MAX_CLIP_BYTES
    """Bytes of memory that decoding may take; a video that needs more is recorded as damaged. As
    data.max_clip_bytes of those who train on it."""

    def __post_init__(self) -> None:
        _check_list("", self)
        _check_scanning(self.workers, self.timeout_s, self.max_clip_bytes)


@dataclass(frozen=True)
class PackConfig(ScanConfig):
    """python -m videomae.pack"""

    out: str | None = None
    """Directory that is written: the pack."""
    timeout_s: float = 1800.0
    """A video that takes longer is left out."""
    short_side: int = 256
    """Of the packed videos, in pixels; smaller ones stay as they are."""
    stride: int = 4
    """Every stride-th frame decodes without those between: the data.clip.stride you train with."""
    keyint: int = 32
    """Every keyint-th frame is a key frame, from which decoding can start: a multiple of stride."""
    crf: float = 22.0
    """x264's quality, 1 to 51; less is better, and larger."""
    preset: str = "medium"
    """x264's: slower ones make smaller files."""
    shard_mb: float = 512.0
    """Size of a shard, in 10^6 bytes; a larger video has a shard of its own."""
    max_bad_fraction: float = 0.01
    """Packing stops when more than this share of the videos tried so far, and more than one video,
    cannot be packed."""
    check: bool = False
    """Only read all of the pack in `out`, and say what is damaged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_at_least(2, "", {"short_side": self.short_side})
        _check_between(1, 17, "", {"stride": self.stride})  # x264 puts 16 B-frames in a row
        _check_between(1, 51, "", {"crf": self.crf})
        _check_between(0, 1, "", {"max_bad_fraction": self.max_bad_fraction})
        _check(self.shard_mb > 0, f"shard_mb must be more than 0, got {self.shard_mb}")
        below = self.keyint // self.stride * self.stride
        _check(
            0 < below == self.keyint,
            f"keyint={self.keyint} is not a multiple of stride={self.stride}: take "
            f"{below or self.stride} or {below + self.stride}",
        )
        _check(
            self.preset in X264_PRESETS,
            f"preset={self.preset} is none of x264's: {' '.join(X264_PRESETS)}",
        )


@dataclass(frozen=True)
class ReportConfig:
    """python -m videomae.report"""

    runs: Any = None
    """Quoted glob of run directories, or of their results.json; or a list of globs."""
    out: str = "outputs/report"
    """Directory that report.html is written to."""
    samples: int = 6
    """Right and wrong test videos of each evaluation that are shown; 0: none."""

    def __post_init__(self) -> None:
        given = self.runs if isinstance(self.runs, list) else [self.runs]
        _check(
            self.runs is None or all(isinstance(each, str) and each.strip() for each in given),
            f"runs must be a glob, or a list of them, got {self.runs!r}",
        )
        _check(self.samples >= 0, f"samples must be at least 0, got {self.samples}")


MOST_TOKENS = 1_000_000
"""Of a clip; more is a slip, or a file that says what it likes."""


def token_grid(model: ModelConfig, clip: ClipConfig) -> tuple[int, int, int]:
    """How many tokens a clip has along time, height and width.

    Raises:
        ConfigError: the clip does not divide into whole tubelets.
    """
    _check(
        clip.frames % model.tubelet == 0,
        f"data.clip.frames={clip.frames} is not a multiple of model.tubelet={model.tubelet}",
    )
    for key, pixels in zip(("size", "width"), clip.frame, strict=True):
        _check(
            pixels % model.patch == 0,
            f"data.clip.{key}={pixels} is not a multiple of model.patch={model.patch}; "
            f"the nearest sizes are {pixels // model.patch * model.patch or model.patch} "
            f"and {(pixels // model.patch + 1) * model.patch}",
        )
    height, width = clip.frame
    grid = clip.frames // model.tubelet, height // model.patch, width // model.patch
    _check(
        math.prod(grid) <= MOST_TOKENS,
        f"{clip} are {math.prod(grid)} tokens; no memory holds more than about {MOST_TOKENS}",
    )
    return grid


def check_mask(mask: MaskConfig, grid: tuple[int, int, int], section: str = "mask.") -> None:
    """Masking that leaves the encoder and the decoder something to do.

    Args:
        section: what the settings' names start with.

    Raises:
        ConfigError: the ratio hides nothing or everything, or the running cell does not tile.
    """
    t, h, w = grid
    tokens = h * w if mask.kind is MaskKind.tube else t * h * w
    masked = int(mask.ratio * tokens)
    _check(
        0 < masked < tokens,
        f"{section}ratio={mask.ratio} hides {masked} of {tokens} places; "
        "it must hide at least one and leave at least one",
    )
    _check(
        mask.decoder_ratio == 0 or (h % 2 == 0 and w % 2 == 0),
        f"mask.decoder_ratio={mask.decoder_ratio} tiles the frame with cells of 2 x 2 tokens, "
        f"but the grid is {h} x {w}: choose data.clip.size / model.patch even, "
        "or mask=tube (no decoder mask)",
    )
