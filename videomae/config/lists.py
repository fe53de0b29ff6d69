"""Settings of a clip list: its file, the root of its paths and the format of its lines."""

import re
from dataclasses import dataclass
from enum import Enum

from videomae.config.settings import check, check_bounds, dotted, input_path, setting

MAX_CLIP_BYTES = 2**31
"""Default limit of the memory for reading one clip, in bytes."""
MIN_CLIP_BYTES = 2**27
"""Smallest limit of the memory for reading one clip, in bytes: reading takes 64 MiB at a time."""


class ListFormat(Enum):
    """The formats of a line of a clip list; videomae.lists.formats explains them."""

    auto = "auto"
    video = "video"
    video_label = "video_label"
    video_start_total = "video_start_total"
    frames_start_total = "frames_start_total"
    frames_total_label = "frames_total_label"
    video_labels = "video_labels"
    video_values = "video_values"


@dataclass(frozen=True)
class LinesConfig:
    """Settings that say what the lines of a clip list mean."""

    root: str | None = input_path(
        "/path/to/videos",
        may_change=True,
        may_be_address=True,
        in_features=True,
        on_page=True,
        often=True,
    )
    """Folder that the paths of the clip list are relative to; or a pack, which may also lie at an
    address: s3://, gs://, hf:// or https://."""
    list_format: ListFormat = setting(ListFormat.auto, in_features=True)
    """Format of the lines of the clip list; auto: told from the lines."""
    frame_template: str | None = setting(None, is_path=True, in_features=True)
    """Pattern of the file names in a folder of frames, such as "img_{:05}.jpg"."""
    first_frame: int = setting(1, at_least=0, in_features=True)
    """Number of the first frame in a folder of frames, where the list does not say."""

    def check_lines(self, section: str) -> None:
        """Check that the settings of the lines fit each other.

        Args:
            section: the section that the settings stand in, such as "data"; "" for none.

        Raises:
            ConfigError: they do not; the error names the setting.
        """
        check_bounds(self, section)
        template = dotted(section, "frame_template")
        if self.frame_template is not None:
            check(
                is_template(self.frame_template),
                f"{template} must hold one place for the frame's number, such as "
                f'"img_{{:05}}.jpg"; got {self.frame_template!r}',
            )
        if self.list_format in (ListFormat.frames_start_total, ListFormat.frames_total_label):
            check(
                self.frame_template is not None,
                f"{dotted(section, 'list_format')}={self.list_format.name} lists folders of "
                f"frames: set {template}, for example '{template}=\"img_{{:05}}.jpg\"'",
            )


@dataclass(frozen=True)
class ListConfig(LinesConfig):
    """Settings of a training list: its file, the root of its paths and the format of its lines."""

    train_list: str | None = input_path(
        "/path/to/train.txt",
        may_change=True,
        on_page=True,
        often=True,
        no_effect_in=("evaluate",),
    )
    """Training list: the clip list of the videos to train on."""


@dataclass(frozen=True)
class ListedConfig(LinesConfig):
    """Settings of a command that reads the videos of a clip list."""

    list: str | None = input_path("/path/to/list.txt", often=True)
    """Clip list of the videos to read."""
    tombstones: str | None = input_path("/path/to/tombstones.jsonl", may_change=True, new=True)
    """File that names videos which must not be used any more: JSON lines with path, source_sha256
    or clip_id, or a text file of paths. None of them is opened."""


def is_template(text: str) -> bool:
    """Whether a text is a pattern of file names with one place for a number, as img_{:05}.jpg
    is."""
    place = r"\{0?(?::[^{}\d]{0,2}\d{0,2}d?)?\}"
    plain = r"(?:[^{}]|\{\{|\}\})*"
    if not re.fullmatch(plain + place + plain, text):
        return False
    try:
        return text.format(1) != text.format(2)
    except ValueError:
        return False
