"""Settings of the commands that make lists and packs of video files: prepare, scan, pack."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from videomae.config.lists import MAX_CLIP_BYTES, MIN_CLIP_BYTES, ListedConfig
from videomae.config.settings import check, check_bounds, check_seed, input_path, setting

X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow"),
)


class Dataset(StrEnum):
    """The data sets that prepare knows; videomae.lists.annotations reads their annotations."""

    ucf101 = "ucf101"
    hmdb51 = "hmdb51"
    k400 = "k400"
    k600 = "k600"
    k710 = "k710"
    ssv2 = "ssv2"
    folders = "folders"
    csv = "csv"


class Scan(Enum):
    """The ways in which prepare looks for damaged videos."""

    off = "off"
    quick = "quick"
    strict = "strict"


@dataclass(frozen=True)
class PrepareConfig:
    """Settings of python -m videomae.prepare, which makes the lists of a data set."""

    dataset: str | None = setting(None, example="ucf101", choices=tuple(Dataset), often=True)
    """Data set: ucf101 hmdb51 k400 k600 k710 ssv2; for your own videos: folders (one per class),
    csv (lines path,class), or a reader of annotations as package.module:Name, see
    docs/extending.md."""
    videos: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/videos", often=True
    )
    """Folder below which the videos lie, or the folders of extracted frames."""
    annotations: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/annotations", often=True
    )
    """Folder of the official annotation files; for dataset=csv, the CSV file."""
    out: str | None = setting(None, is_path=True, example="/path/to/out", often=True)
    """Output directory, for the lists, classes.txt, prepared.json and problems.jsonl."""
    scan: Scan = setting(Scan.off, often=True)
    """Whether damaged videos are searched for and left out of the lists. off: no; quick: three
    frames of each video are decoded; strict: all frames are."""
    workers: int | None = setting(None, at_least=1, often=True)
    """Number of processes that scan videos; null: one per CPU core."""
    timeout_s: float = setting(600.0, above=0)
    """Seconds that scanning one video may take; a video that takes longer is left out."""
    max_clip_bytes: int = setting(MAX_CLIP_BYTES, at_least=MIN_CLIP_BYTES)
    """Bytes of memory that scanning one video may take; a video that needs more is left out."""
    val_groups: int = setting(0, at_least=0)
    """Number of groups of each UCF101 class (of its 18 training groups) that are moved from train
    to val."""
    val_fraction: float = setting(0.0, at_least=0, below=1)
    """Share of each class's training videos that is moved to val (dataset=folders or csv), in whole
    recordings where names, or folders inside those of the classes, tell them."""
    test_fraction: float = setting(0.0, at_least=0, below=1)
    """Share of each class's training videos that is moved to test, as val_fraction is to val."""
    seed: int = 0
    """Random seed for the choice of the videos that are moved to val and test."""
    strict: bool = False
    """Whether numbers of videos that differ from the published ones are an error."""
    overwrite: bool = False
    """Whether lists that prepare wrote to out before are replaced."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_bounds(self)
        check(
            self.dataset is None or self.dataset in tuple(Dataset) or ":" in self.dataset,
            f"dataset={self.dataset} must be one of {', '.join(Dataset)}, or package.module:Name",
        )
        custom = self.dataset in (Dataset.folders, Dataset.csv)
        moved = {"val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
        for name, value in moved.items():
            check(value == 0 or custom, f"{name}={value} is for dataset=folders and dataset=csv")
        check(sum(moved.values()) < 1, f"{moved} leave no training videos")
        check(
            self.val_groups == 0 or self.dataset == Dataset.ucf101,
            f"val_groups={self.val_groups} is for dataset=ucf101, whose videos come in groups",
        )
        check(
            self.annotations is None or self.dataset != Dataset.folders,
            f"annotations={self.annotations}: dataset=folders has none: a folder is a class",
        )


@dataclass(frozen=True)
class ScanConfig(ListedConfig):
    """Settings of python -m videomae.scan, which looks for damaged videos in a list."""

    root: str | None = input_path("/path/to/videos", often=True)
    """Folder of video files that the paths of the clip list are relative to."""
    out: str | None = setting(None, is_path=True, example="/path/to/out", often=True)
    """Output directory, for scan.parquet, clean.txt and progress.jsonl."""
    workers: int | None = setting(None, at_least=1, often=True)
    """Number of processes that decode videos; null: one per CPU core."""
    timeout_s: float = setting(600.0, above=0)
    """Seconds that decoding one video may take; a video that takes longer is recorded as
    damaged."""
    max_clip_bytes: int = setting(MAX_CLIP_BYTES, at_least=MIN_CLIP_BYTES)
    """Bytes of memory that decoding one video may take; a video that needs more is recorded as
    damaged. Give the same value as data.max_clip_bytes of the training."""

    def __post_init__(self) -> None:
        self.check_lines("")


@dataclass(frozen=True)
class PackConfig(ScanConfig):
    """Settings of python -m videomae.pack, which rewrites videos for faster decoding."""

    out: str | None = setting(None, is_path=True, example="/path/to/out", often=True)
    """Output directory of the pack, or an address that it is written to: s3://, gs:// or hf://."""
    staging: str | None = setting(None, is_path=True, example="/path/on/this/machine")
    """Directory on this machine in which a pack for an address is made: complete shards go from
    here to out. null: below videomae-UID in the directory for temporary files (TMPDIR)."""
    timeout_s: float = setting(1800.0, above=0)
    """Seconds that packing one video may take; a video that takes longer is left out."""
    short_side: int = setting(256, at_least=2)
    """Short side of the packed videos, in pixels; smaller videos keep their size."""
    # x264 puts 16 B-frames in a row.
    stride: int = setting(4, at_least=1, at_most=17)
    """Distance between two frames that decode without those between them: give the data.clip.stride
    of your training."""
    keyint: int = 32
    """Distance between two key frames, at which decoding can start: a multiple of stride."""
    crf: float = setting(22.0, at_least=1, at_most=51)
    """Constant rate factor (CRF) of x264, 1 to 51: lower is better quality and larger files."""
    preset: str = "medium"
    """Preset of x264, ultrafast to veryslow: slower presets make smaller files."""
    shard_mb: float = setting(512.0, above=0)
    """Size of a shard file of the pack, in 10^6 bytes; a larger video gets a shard of its own."""
    max_bad_fraction: float = setting(0.01, at_least=0, at_most=1)
    """Largest share of videos that cannot be packed: packing stops when there are more among those
    tried so far, and more than one."""
    check: bool = False
    """Whether the command only reads the whole pack in `out` and reports what is damaged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        below = self.keyint // self.stride * self.stride
        check(
            0 < below == self.keyint,
            f"keyint={self.keyint} is not a multiple of stride={self.stride}: take "
            f"{below or self.stride} or {below + self.stride}",
        )
        check(
            self.preset in X264_PRESETS,
            f"preset={self.preset} is none of x264's: {' '.join(X264_PRESETS)}",
        )
