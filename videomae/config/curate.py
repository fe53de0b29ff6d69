"""Settings of the command that makes clip lists of raw videos: curate."""

import re
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from videomae.config.curate_models import EmbedConfig, PersonsConfig, TextConfig
from videomae.config.lists import MAX_CLIP_BYTES, MIN_CLIP_BYTES
from videomae.config.run import Device
from videomae.config.settings import ConfigError, check, check_bounds, check_seed, setting

QUANTILE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
"""Pattern of a threshold that is a quantile, such as 5%."""


class CurateStage(Enum):
    """The stages of curate; all: every one for which the settings suffice, in this order."""

    all = "all"
    sources = "sources"
    measure = "measure"
    duplicates = "duplicates"
    contamination = "contamination"
    persons = "persons"
    text = "text"
    embed = "embed"
    select = "select"
    subset = "subset"
    page = "page"


class Scenes(Enum):
    """The ways to cut a video into clips. longest: scenes between cuts, of which only the longest
    can be kept; all: scenes between cuts; fixed: pieces of the same duration."""

    longest = "longest"
    all = "all"
    fixed = "fixed"


class CutMethod(Enum):
    """The ways to find cuts. content: where hue, saturation and value change at once; transnetv2:
    where a network sees a transition, soft ones too."""

    content = "content"
    transnetv2 = "transnetv2"


class Unmeasured(Enum):
    """Meanings of a score that was not measured. undecided: the clip is neither kept nor dropped;
    drop: the clip is dropped; keep: the rule does not count."""

    undecided = "undecided"
    drop = "drop"
    keep = "keep"


class Order(Enum):
    """Orders of the kept clips, of which a nested list takes the first."""

    random = "random"
    quality = "quality"
    balanced = "balanced"


class ListLabels(Enum):
    """Labels of the lists. none: no labels; hashtags: a class for each hashtag."""

    none = "none"
    hashtags = "hashtags"


class EngineName(Enum):
    """The engines of stage measure. local: processes of this machine; ray: tasks of a Ray
    cluster."""

    local = "local"
    ray = "ray"


def _check_threshold(key: str, value: Any) -> None:
    """Check that a threshold is null, a finite number or a quantile such as 5%."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    found = QUANTILE.fullmatch(value) if isinstance(value, str) else None
    check(
        value is None or number or (found is not None and float(found[1]) <= 100),
        f"{key} must be a number, a quantile of the table such as 5%, or null, got {value!r}",
    )


@dataclass(frozen=True)
class LimitConfig:
    """Bounds of one column of the table, for rules that have no setting of their own."""

    at_least: Any = None
    """Smallest value that is kept; 5%: that quantile of the table; null: no bound."""
    at_most: Any = None
    """Largest value that is kept; 95%: that quantile of the table; null: no bound."""

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_threshold(f"rules.limits.NAME.{each.name}", getattr(self, each.name))


@dataclass(frozen=True)
class RulesConfig:
    """Rules that decide which clips are kept. A threshold is a number, a quantile of the table such
    as 5%, or null for no rule."""

    duration_min_s: Any = setting(None, often=True)
    """Shortest duration of a kept clip, in seconds."""
    duration_max_s: Any = None
    """Longest duration of a kept clip, in seconds."""
    short_side_min: Any = None
    """Smallest short side of a kept clip's frames, in pixels."""
    fps_min: Any = None
    """Smallest frame rate of a kept clip, in frames per second."""
    sharpness_min: Any = setting(None, often=True)
    """Smallest sharpness: variance of the Laplacian at a long side of 512 pixels."""
    luma_min: Any = None
    """Smallest mean luma, 0 (black) to 255 (white): darker clips are dropped."""
    luma_max: Any = None
    """Largest mean luma, 0 (black) to 255 (white): brighter clips are dropped."""
    contrast_min: Any = None
    """Smallest standard deviation of the luma within a frame."""
    clipped_max: Any = None
    """Largest share of pixels that are black or white."""
    bars_max: Any = None
    """Largest share of the picture that bars at its borders cover."""
    motion_min: Any = setting(None, often=True)
    """Slowest mean motion, in picture diagonals per second."""
    motion_max: Any = None
    """Fastest mean motion, in picture diagonals per second."""
    frozen_max: Any = None
    """Largest share of frames in which the picture stands still."""
    text_max: Any = None
    """Largest share of the picture that text covers."""
    persons_min: Any = None
    """Smallest share of frames in which a person is seen."""
    person_height_min: Any = None
    """Smallest height of the tallest person, as a share of the picture's height."""
    views_min: Any = None
    """Fewest views of the video on its platform."""
    hashtags_min: Any = None
    """Fewest hashtags of the video that the rules of hashtags leave."""
    licences: list[str] | None = None
    """Licences of which a kept clip must have one; null: any, and clips without one too."""
    persons: bool = False
    """Whether clips in which no person was seen are dropped (stage persons)."""
    duplicates: bool = False
    """Whether clips that duplicate another one are dropped (stage duplicates)."""
    contaminated: bool = False
    """Whether clips that show a test video are dropped (stage contamination)."""
    limits: dict[str, LimitConfig] = setting(factory=dict)
    """Bounds of any other column, by its name: rules.limits.COLUMN.at_least=0.5."""
    unmeasured: Unmeasured = Unmeasured.undecided
    """Meaning of a score that was not measured, for a rule that needs it. undecided: the clip is
    neither kept nor dropped; drop: it is dropped; keep: the rule does not count."""
    freeze_again: bool = False
    """Whether quantiles are computed anew, where rules_used.yaml has them of an earlier table."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.type is Any:
                _check_threshold(f"rules.{each.name}", getattr(self, each.name))


@dataclass(frozen=True)
class CutsConfig:
    """Settings of the search for cuts."""

    method: CutMethod = setting(CutMethod.content, often=True)
    """How cuts are found. content: by the rules of PySceneDetect's ContentDetector; transnetv2: by
    a network, which finds fades and dissolves too, and takes some 15 times as long."""
    threshold: float = setting(27.0, above=0, below=255)
    """Mean change of hue, saturation and value between two frames from which there is a cut, for
    cuts.method=content."""
    min_frames: int = setting(15, at_least=1)
    """Fewest frames between two cuts, for cuts.method=content."""
    probability: float = setting(0.5, above=0, below=1)
    """Probability from which a frame is part of a transition, for cuts.method=transnetv2."""
    fixed_s: float = setting(10.0, above=0)
    """Duration of the clips of scenes=fixed, in seconds."""


@dataclass(frozen=True)
class EngineConfig:
    """Settings of the processes that measure videos."""

    name: EngineName = setting(EngineName.local, often=True)
    """Where videos are measured. local: in processes of this machine; ray: in tasks of a Ray
    cluster."""
    address: str | None = None
    """Address of a running Ray cluster that this machine is a node of, such as auto or HOST:PORT;
    null: engine.name=ray starts a Ray on this machine."""
    workers: int | None = setting(None, at_least=1, often=True)
    """Number of videos that are measured at once, or of clips that are looked at; null: one per CPU
    core of the machine or the cluster, and four for models on a GPU."""
    shard: int = setting(64, at_least=1)
    """Number of measured videos, or of results of clips, that are put together into one file."""
    timeout_s: float = setting(600.0, above=0)
    """Seconds that measuring one video, or looking at one clip, may take."""
    max_clip_bytes: int = setting(MAX_CLIP_BYTES, at_least=MIN_CLIP_BYTES)
    """Bytes of memory that decoding one video may take."""

    def __post_init__(self) -> None:
        check(
            self.address is None or self.name is EngineName.ray,
            f"engine.address={self.address} needs engine.name=ray",
        )


@dataclass(frozen=True)
class PageConfig:
    """Settings of the page to look at."""

    per_page: int = setting(100, at_least=1, at_most=1000)
    """Number of clips on each file of the page."""
    most_pages: int = setting(3, at_least=1)
    """Most files that show the clips of one reason, the kept clips or the groups of duplicates."""
    to_judge: int = setting(100, at_least=1, at_most=10_000)
    """About how many clips the page offers to judge."""


@dataclass(frozen=True)
class CurateConfig:
    """Settings of python -m videomae.curate, which makes clip lists of raw videos."""

    rules: RulesConfig
    """Rules that decide which clips are kept; a rule set by name: rules=tiktok."""
    source: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/raw", often=True
    )
    """Folder of raw videos, a text file with a path a line, or one video."""
    out: str | None = setting(None, is_path=True, example="corpus", often=True)
    """Output directory, for the table clips.parquet, the lists and the work that is done so far."""
    stage: CurateStage = setting(CurateStage.all, often=True)
    """Stage to run: sources, measure, duplicates, contamination, persons, text, embed, select,
    subset or page; all: each for which the settings suffice."""
    scenes: Scenes = setting(Scenes.longest, often=True)
    """Clips of a video. longest: its scenes, of which only the longest can be kept; all: its
    scenes; fixed: pieces of cuts.fixed_s seconds."""
    hashtags: str | None = setting(None, is_path=True, must_exist=True, often=True)
    """YAML file of rules for hashtags: include, merge, split, min_views; null: no rules."""
    folder_hashtags: bool = False
    """Whether the first folder below source is a hashtag of the videos in it."""
    salt: str | None = setting(None, is_path=True, must_exist=True)
    """File of the salt with which names of uploaders are hashed; null: out/salt, made at random."""
    cuts: CutsConfig = setting(factory=CutsConfig)
    """Settings of the search for cuts."""
    engine: EngineConfig = setting(factory=EngineConfig)
    """Settings of the processes that measure videos."""
    tests: Any = setting(None, example="[lists/ucf101]", often=True)
    """Test lists, or directories of python -m videomae.prepare, whose videos the clips must not
    show; null: none."""
    tests_root: str | None = setting(None, is_path=True, must_exist=True)
    """Folder that the paths in test lists are relative to; null: that of the directory of prepare
    that a list lies in, or else the folder of the list."""
    contamination_recall: int = setting(20, at_least=0)
    """Number of test videos of which edited copies are made and looked for, to measure how many of
    each edit are found; 0: none."""
    device: Device = Device.auto
    """Device of the models of stages persons and embed. auto: a CUDA device if there is one."""
    persons: PersonsConfig = setting(factory=PersonsConfig)
    """Settings of stage persons."""
    text: TextConfig = setting(factory=TextConfig)
    """Settings of stage text."""
    embed: EmbedConfig = setting(factory=EmbedConfig)
    """Settings of stage embed."""
    sizes: Any = setting(None, example="[1000,10000,all]", often=True)
    """Numbers of clips of the nested lists, as [1000,10000,all]; null: no lists."""
    by: Any = setting(None, often=True)
    """Orders of the nested lists, of random, quality and balanced; null: random."""
    seed: int = setting(0, often=True)
    """Random seed of the orders."""
    quality: list[str] = setting(
        factory=lambda: ["sharpness", "short_side_px", "-bars_fraction", "-frozen_fraction"]
    )
    """Columns by whose mean rank by=quality orders; with - before it, lower values are better."""
    balance: str = "hashtags"
    """Column over whose values by=balanced spreads the clips, such as hashtags or cluster."""
    labels: ListLabels = ListLabels.none
    """Labels of the lists. none: no labels; hashtags: a class for each hashtag."""
    page: PageConfig = setting(factory=PageConfig)
    """Settings of the page to look at."""
    judged: str | None = setting(None, is_path=True, must_exist=True, often=True)
    """CSV file of clips that you have judged, for precision and recall on the page; null:
    out/page/labels.csv, where it is filled in."""
    forget: str | None = setting(None, is_path=True, must_exist=True, often=True)
    """Text file of paths, SHA-256 of files, ids of clips or ids of videos that are forgotten."""
    reason: str = ""
    """Reason that the tombstones of forget= keep."""
    used_by: list[str] | None = None
    """Packs, run directories and weights files that forget= looks through for what it removes."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_bounds(self)
        for section in ("cuts", "engine", "persons", "text", "embed", "page"):
            check_bounds(getattr(self, section), section)
        self.test_lists()
        self.list_sizes()
        self.orders()

    def test_lists(self) -> list[str]:
        """Return the test lists, or directories of prepare, that `tests` names."""
        given = self.tests if isinstance(self.tests, list) else [self.tests]
        lists = given if self.tests is not None else []
        for each in lists:
            check(
                isinstance(each, str) and each.strip() != "",
                f"tests must be paths of test lists or of prepared directories, got {self.tests}",
            )
        check(self.tests is None or bool(lists), "tests=[] names no test list: give one, or null")
        return lists

    def list_sizes(self) -> list[int | None]:
        """Return the sizes of the nested lists; None stands for all kept clips."""
        given = self.sizes if isinstance(self.sizes, list) else [self.sizes]
        sizes: list[int | None] = []
        for each in given if self.sizes is not None else []:
            whole = isinstance(each, int) and not isinstance(each, bool) and each > 0
            check(
                whole or each == "all",
                f"sizes must be numbers of clips or all, as [1000,all], got {self.sizes}",
            )
            sizes.append(None if each == "all" else each)
        return sizes

    def orders(self) -> list[Order]:
        """Return the orders of the nested lists."""
        given = self.by if isinstance(self.by, list) else [self.by or Order.random.value]
        known = [each.value for each in Order]
        for each in given:
            if each not in known:
                raise ConfigError(f"by={each} must be of {', '.join(known)}")
        return [Order(each) for each in given]
