"""Settings of a data set: its lists, its clips, its classes, and the views of a test video."""

from dataclasses import dataclass, fields, replace
from enum import Enum

from videomae.config.clip import ClipConfig
from videomae.config.files import Scan
from videomae.config.lists import MAX_CLIP_BYTES, MIN_CLIP_BYTES, ListConfig
from videomae.config.settings import USES, check, input_path, setting

CLASS, MULTILABEL, REGRESSION = TARGETS = ("class", "multilabel", "regression")
"""Targets that fine-tuning can learn; package.module:Name is a head of the user's own."""


class Sampling(Enum):
    """The ways to choose the frames of a fine-tuning clip; see videomae.data.frame_sampling."""

    dense = "dense"
    segment = "segment"


@dataclass(frozen=True)
class SourceConfig(ListConfig):
    """Settings of one of several training lists that pre-training uses together."""

    stride: int | None = setting(None, at_least=1)
    """Distance between two frames of a clip of this list, in frames of the video; null:
    data.clip.stride."""


@dataclass(frozen=True)
class DataConfig(ListConfig):
    """Settings of a data set: lists, clips, classes, views of a test video, reading of videos."""

    clip: ClipConfig = setting(kw_only=True)
    """Size of the clips that the model takes."""
    sources: dict[str, SourceConfig] = setting(factory=dict, no_effect_in=USES)
    """Several training lists instead of train_list and root, each under a name that you choose
    (pre-training). data.sources.NAME.train_list=FILE adds one or changes it; '~data.sources.NAME'
    removes one."""
    val_list: str | None = input_path(
        "/path/to/val.txt", may_change=True, on_page=True, often=True, no_effect_in=USES
    )
    """Validation list, on which fine-tuning chooses its best weights; see eval_every."""
    test_list: str | None = input_path(
        "/path/to/test.txt", may_change=True, on_page=True, often=True
    )
    """Test list, on which fine-tuning and evaluation measure the accuracy."""
    tombstones: str | None = input_path("/path/to/tombstones.jsonl", may_change=True, new=True)
    """File that names videos which must not be used any more: JSON lines with path, source_sha256
    or clip_id, or a text file of paths. None of them is opened."""
    videos: str | None = input_path(
        "/path/to/videos", may_change=True, often=True, no_effect_in=USES
    )
    """Folder of your own videos, one folder per class or unlabelled: pretrain and finetune scan it,
    make the lists, and fit what is not given to the number of videos. See docs/own_videos.md."""
    scan: Scan | None = setting(None, may_change=True, no_effect_in=USES)
    """How data.videos is looked through for broken files: strict decodes each, quick reads its
    first, middle and last frame, off does not look; null: strict, from 1,000 videos up quick."""
    prepared: str | None = setting(None, is_path=True, may_change=True, often=True)
    """Directory that python -m videomae.prepare wrote. It provides the lists, root, class_names and
    classes wherever these are null."""
    split: str | None = setting(None, may_change=True, often=True)
    """Split of the prepared directory to use, 1 2 ...; null where the data set has only one. all:
    each split in turn, then the mean of their results (fine-tuning and evaluation)."""
    num_train: int | None = setting(None, at_least=1, may_change=True, no_effect_in=USES)
    """Number of videos of the published training list; null: unknown. If your list has another
    length, the run says so at its start."""
    sampling: Sampling = setting(Sampling.dense, in_features=True, on_page=True)
    """How the frames of a fine-tuning clip are chosen. dense: one window of frames x stride;
    segment: the video is cut into as many parts as a clip has frames, one frame from each part."""
    target: str = setting(
        CLASS, choices=TARGETS, new=True, often=True, on_page=True, no_effect_in=("probe",)
    )
    """Target of fine-tuning. class: one class for each video; multilabel: any number of classes;
    regression: one or several numbers; or your own head, as package.module:Name, see
    docs/extending.md. multilabel needs list_format=video_labels, regression video_values."""
    classes: int | None = setting(None, at_least=2, example="101", often=True)
    """How many classes the labels have (fine-tuning and probes); evaluation takes the number from
    the weights."""
    class_names: str | None = setting(None, is_path=True, may_change=True, often=True)
    """Text file with the names of the classes, or of the numbers of a regression: line i is the
    name of class or number i. null: they are called by their numbers."""
    hflip: bool = setting(False, no_effect_in=USES)
    """Whether training views are flipped horizontally at random: only where a mirrored video keeps
    its class. Pre-training never flips."""
    repeats: int = setting(1, at_least=1, at_most=1024, on_page=True, no_effect_in=USES)
    """Number of views drawn from one decoded clip in training."""
    segments: int = setting(
        5, at_least=1, may_change=True, in_features=True, no_effect_in=("probe",)
    )
    """Number of temporal positions of a test video's views."""
    crops: int = setting(3, at_least=1, may_change=True, no_effect_in=("probe",))
    """Number of spatial positions of a test video's views."""
    decoder: str = setting("auto", may_change=True)
    """Library that decodes videos: pyav, decord or torchcodec; auto: the first that is installed;
    or your own decoder, as package.module:Name, see docs/extending.md."""
    align_starts: bool = setting(True, no_effect_in=USES)
    """Whether pre-training clips from a pack start at a multiple of the pack's stride, where they
    decode fastest. It has an effect only if the pack's stride divides data.clip.stride; not on
    plain video files, and not in fine-tuning."""
    cache_dir: str | None = setting(
        None, is_path=True, example="/path/on/this/machine", may_change=True
    )
    """Directory on this machine for the shards of packs at addresses (root=s3://...), which all its
    processes share; null: videomae-UID in the directory for temporary files (TMPDIR)."""
    cache_gb: float | None = setting(
        None, above=0, null="nine tenths of the free disk", may_change=True
    )
    """Largest size of cache_dir, in 10^9 bytes; null: nine tenths of what is free there. Least
    recently used shards are removed first."""
    max_clip_bytes: int = setting(MAX_CLIP_BYTES, at_least=MIN_CLIP_BYTES, may_change=True)
    """Bytes of memory that reading one clip may take; a video that needs more counts as a bad file.
    Frames are read and resized a few at a time: 1080p takes about 100 MB and 8K less than 1 GB."""
    timeout_s: float = setting(120.0, above=0, may_change=True)
    """Seconds that decoding one video may take. A decoding process that takes longer, or dies, is
    restarted; a video with which this happens twice in a row counts as a bad file."""
    max_bad_fraction: float = setting(
        0.01, at_least=0, at_most=1, may_change=True, no_effect_in=USES
    )
    """Largest share of unreadable files: training stops when more of the files tried so far, and
    more than one file, cannot be read."""

    def __post_init__(self) -> None:
        self.check_lines("data")
        check(
            self.target in TARGETS or ":" in self.target,
            f"data.target must be one of {', '.join(TARGETS)} or package.module:Name, got "
            f"{self.target}",
        )
        check(
            self.split is None or self.prepared is not None,
            f"data.split={self.split} is a split of a prepared directory: give data.prepared=DIR, "
            "written by python -m videomae.prepare",
        )
        for name, source in self.sources.items():
            source.check_lines(f"data.sources.{name}")
        check(
            self.videos is None or self.tombstones is None,
            f"data.tombstones={self.tombstones} does not go with data.videos={self.videos}, whose "
            "files are all looked through: remove them from the folder, or go on with the lists of "
            "an earlier run, data.prepared=RUN/prepared in place of data.videos",
        )
        lists = {"data.train_list": self.train_list, "data.root": self.root}
        both = [f"{key}={value}" for key, value in lists.items() if value is not None]
        check(
            not self.sources or not both,
            f"data.sources ({', '.join(self.sources)}) take the place of {' and '.join(both)}: "
            "leave out one of the two. Sources are for pre-training, and have lists of their own, "
            "data.sources.NAME.train_list and data.sources.NAME.root",
        )

    def check_no_sources(self) -> None:
        """Check that data.sources is empty, as where labelled videos are needed.

        Raises:
            ConfigError: it is not.
        """
        check(
            not self.sources,
            f"data.sources ({', '.join(self.sources)}) are for pre-training: choose a labelled "
            "data set, such as data=k400, and give data.train_list and data.root",
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
        """Return each training list as a data set of its own, by its section of the config.

        That is {"data": self}, or one entry for each source, "data.sources.NAME", in their order.
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
