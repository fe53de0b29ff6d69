"""Commands that make lists and packs of files: prepare, scan, pack."""

from dataclasses import dataclass
from enum import Enum, StrEnum

from videomae.config.lists import MAX_CLIP_BYTES, MIN_CLIP_BYTES, ListedConfig
from videomae.config.settings import check, check_bounds, check_seed, setting

X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow"),
)


class Dataset(StrEnum):
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


@dataclass(frozen=True)
class PrepareConfig:
    """python -m videomae.prepare"""

    dataset: str | None = setting(None, example="ucf101", choices=tuple(Dataset), often=True)
    """ucf101 hmdb51 k400 k600 k710 ssv2; your own: folders (one per class), csv (path,class), or
    a reader of annotations as package.module:Name, see docs/extending.md."""
    videos: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/videos", often=True
    )
    """Folder below which the videos lie, or folders of extracted frames."""
    annotations: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/annotations", often=True
    )
    """Folder of the official annotation files; with dataset=csv the file."""
    out: str | None = setting(None, is_path=True, example="/path/to/out", often=True)
    """Directory that is written: lists, classes.txt, prepared.json, problems.jsonl."""
    scan: Scan = setting(Scan.off, often=True)
    """Leave damaged videos out: quick reads three frames of each, strict decodes all of them."""
    workers: int | None = setting(None, at_least=1, often=True)
    """Processes of a scan; null: one per core."""
    timeout_s: float = setting(600.0, above=0)
    """A video that takes longer to scan is left out."""
    max_clip_bytes: int = setting(MAX_CLIP_BYTES, at_least=MIN_CLIP_BYTES)
    """Bytes of memory that scanning a video may take; one that needs more is left out."""
    val_groups: int = setting(0, at_least=0)
    """ucf101: groups of every class (of its 18 training ones) that are moved from train to val."""
    val_fraction: float = setting(0.0, at_least=0, below=1)
    """folders, csv: share of each class's training videos that is moved to val."""
    test_fraction: float = setting(0.0, at_least=0, below=1)
    """folders, csv: share of each class's training videos that is moved to test."""
    seed: int = 0
    """Chooses what is moved."""
    strict: bool = False
    """Counts that are not the published ones are an error."""
    overwrite: bool = False
    """Replace the lists that out holds."""

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
    """python -m videomae.scan"""

    out: str | None = setting(None, is_path=True, example="/path/to/out", often=True)
    """Directory that is written: scan.parquet, clean.txt, progress.jsonl."""
    workers: int | None = setting(None, at_least=1, often=True)
    """Decoding processes; null: one per core."""
    timeout_s: float = setting(600.0, above=0)
    """A video that takes longer is recorded as damaged."""
    max_clip_bytes: int = setting(MAX_CLIP_BYTES, at_least=MIN_CLIP_BYTES)
    """Bytes of memory that decoding may take; a video that needs more is recorded as damaged. As
    data.max_clip_bytes of those who train on it."""

    def __post_init__(self) -> None:
        self.check_lines("")


@dataclass(frozen=True)
class PackConfig(ScanConfig):
    """python -m videomae.pack"""

    out: str | None = setting(None, is_path=True, example="/path/to/out", often=True)
    """Directory that is written: the pack."""
    timeout_s: float = setting(1800.0, above=0)
    """A video that takes longer is left out."""
    short_side: int = setting(256, at_least=2)
    """Of the packed videos, in pixels; smaller ones stay as they are."""
    # x264 puts 16 B-frames in a row.
    stride: int = setting(4, at_least=1, at_most=17)
    """Every stride-th frame decodes without those between: the data.clip.stride you train with."""
    keyint: int = 32
    """Every keyint-th frame is a key frame, from which decoding can start: a multiple of stride."""
    crf: float = setting(22.0, at_least=1, at_most=51)
    """x264's quality, 1 to 51; less is better, and larger."""
    preset: str = "medium"
    """x264's preset: slower ones make smaller files."""
    shard_mb: float = setting(512.0, above=0)
    """Size of a shard, in 10^6 bytes; a larger video has a shard of its own."""
    max_bad_fraction: float = setting(0.01, at_least=0, at_most=1)
    """Packing stops when more than this share of the videos tried so far, and more than one video,
    cannot be packed."""
    check: bool = False
    """Only read all of the pack in `out`, and say what is damaged."""

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
