"""A data set: its lists, its clips, its classes, and how it is tested."""

from dataclasses import dataclass, fields, replace
from enum import Enum

from videomae.config.clip import ClipConfig
from videomae.config.files import Scan
from videomae.config.lists import MAX_CLIP_BYTES, MIN_CLIP_BYTES, ListConfig
from videomae.config.settings import check, setting


class Sampling(Enum):
    """How the frames of a fine-tuning clip are chosen; see videomae.data.sample."""

    dense = "dense"
    segment = "segment"


@dataclass(frozen=True)
class SourceConfig(ListConfig):
    """One of several lists that are trained on together."""

    stride: int | None = setting(None, at_least=1)
    """Source frames from one sampled frame to the next; null: data.clip.stride."""


@dataclass(frozen=True)
class DataConfig(ListConfig):
    """A data set: its lists, its clips, its classes, and how it is tested."""

    clip: ClipConfig = setting(kw_only=True)
    """What the model sees of one video."""
    sources: dict[str, SourceConfig] = setting(factory=dict)
    """Several training lists in place of train_list and root, by any name (pre-training). A key
    sets, and adds: data.sources.NAME.train_list=FILE; '~data.sources.NAME' leaves one out."""
    val_list: str | None = setting(
        None,
        is_path=True,
        must_exist=True,
        example="/path/to/val.txt",
        may_change=True,
        on_page=True,
        often=True,
    )
    """Clip list on which the best weights of a fine-tuning are chosen; see eval_every."""
    test_list: str | None = setting(
        None,
        is_path=True,
        must_exist=True,
        example="/path/to/test.txt",
        may_change=True,
        on_page=True,
        often=True,
    )
    """Clip list to evaluate on (fine-tuning and evaluation)."""
    videos: str | None = setting(
        None,
        is_path=True,
        must_exist=True,
        example="/path/to/videos",
        may_change=True,
        often=True,
    )
    """Folder of your own videos, one folder per class or unlabelled: pretrain and finetune scan it,
    make the lists, and fit what is not given to the number of videos. See docs/own_videos.md."""
    scan: Scan | None = setting(None, may_change=True)
    """How data.videos is looked through for broken files: strict decodes each, quick reads its
    first, middle and last frame, off does not look; null: strict, from 1,000 videos up quick."""
    prepared: str | None = setting(None, is_path=True, may_change=True, often=True)
    """Directory that python -m videomae.prepare wrote. It gives the lists, root, class_names and
    classes that are null here."""
    split: str | None = setting(None, may_change=True, often=True)
    """Which split of the prepared directory, 1 2 ...; null where the data set has one only. all:
    every one in turn, and their mean (fine-tuning and evaluation)."""
    num_train: int | None = setting(None, at_least=1, may_change=True)
    """Videos of the published training list (null: unknown); a list of another length is said at
    the start."""
    sampling: Sampling = setting(Sampling.dense, in_features=True, on_page=True)
    """dense: one window of frames x stride; segment: one frame from each of `frames` parts."""
    classes: int | None = setting(None, at_least=2, example="101", often=True)
    """How many classes the labels have (fine-tuning and evaluation)."""
    class_names: str | None = setting(None, is_path=True, may_change=True, often=True)
    """Text file, line i = name of class i. Without it classes go by their number."""
    hflip: bool = False
    """Whether a mirrored video keeps its class. Pre-training never mirrors."""
    repeats: int = setting(1, at_least=1, on_page=True)
    """Views drawn from one decoded video."""
    segments: int = setting(5, at_least=1, may_change=True, in_features=True)
    """Temporal positions of a test video's views."""
    crops: int = setting(3, at_least=1, may_change=True)
    """Spatial positions of a test video's views."""
    decoder: str = setting("auto", may_change=True)
    """pyav, decord or torchcodec; auto: the first of them that is there."""
    align_starts: bool = True
    """On a pack whose stride divides data.clip.stride, pre-training's clips start on multiples of
    the pack's stride, where they decode fastest. Plain files have none, nor has fine-tuning."""
    max_clip_bytes: int = setting(MAX_CLIP_BYTES, at_least=MIN_CLIP_BYTES, may_change=True)
    """Bytes of memory that reading one clip may take; a video that needs more is a bad file. Frames
    are read and shrunk a few at a time, so that 1080p takes some 100 MB and 8K less than 1 GB."""
    timeout_s: float = setting(120.0, above=0, may_change=True)
    """Seconds that decoding one video may take. A decoding process that takes longer, or dies, is
    started anew; the video that this happens to twice running is a bad file."""
    max_bad_fraction: float = setting(0.01, at_least=0, at_most=1, may_change=True)
    """Training stops when more than this share of the files tried so far, and more than one file,
    cannot be read."""

    def __post_init__(self) -> None:
        self.check_lines("data")
        check(
            self.split is None or self.prepared is not None,
            f"data.split={self.split} is a split of a prepared directory: give data.prepared=DIR, "
            "written by python -m videomae.prepare",
        )
        for name, source in self.sources.items():
            source.check_lines(f"data.sources.{name}")
        check(
            not self.sources or (self.train_list is None and self.root is None),
            f"data.train_list={self.train_list} and data.root={self.root} have no place beside "
            f"data.sources ({', '.join(self.sources)}): leave both at null, and give each source "
            "its own, data.sources.NAME.train_list and data.sources.NAME.root",
        )

    def check_no_videos(self) -> None:
        """Check that data.videos is null, as where lists are only used.

        Raises:
            ConfigError: it is not.
        """
        check(
            self.videos is None,
            f"data.videos={self.videos} is for pretrain and finetune, which make lists of it: give "
            "data.prepared=RUN/prepared, the lists of such a run",
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
