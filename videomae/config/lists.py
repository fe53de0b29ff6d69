"""Clip lists: where one is, and what its lines hold."""

import re
from dataclasses import dataclass
from enum import Enum

from videomae.config.settings import check, check_bounds, dotted, setting

MAX_CLIP_BYTES = 2**31
"""Memory, in bytes, that reading one clip may take unless a setting says otherwise."""
MIN_CLIP_BYTES = 2**27
"""What that must be at least: reading takes 64 MiB at a time."""


class ListFormat(Enum):
    """What a line of a clip list holds; see videomae.lists.clips."""

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
    """What the lines of a clip list mean."""

    root: str | None = setting(
        None,
        is_path=True,
        must_exist=True,
        example="/path/to/videos",
        may_change=True,
        in_features=True,
        on_page=True,
        often=True,
    )
    """Folder that the list's paths are relative to."""
    list_format: ListFormat = setting(ListFormat.auto, in_features=True)
    """What a line of the list holds."""
    frame_template: str | None = setting(None, is_path=True, in_features=True)
    """File name of one frame of a frame folder, such as "img_{:05}.jpg"."""
    first_frame: int = setting(1, at_least=0, in_features=True)
    """Number of a frame folder's first frame, where the list does not say."""

    def check_lines(self, section: str) -> None:
        """Check that the lines can be read so.

        Raises:
            ConfigError: naming the setting, which stands in that section.
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
    """A training list, where its videos are, and what its lines mean."""

    train_list: str | None = setting(
        None,
        is_path=True,
        must_exist=True,
        example="/path/to/train.txt",
        may_change=True,
        on_page=True,
        often=True,
    )
    """Clip list to train on."""


@dataclass(frozen=True)
class ListedConfig(LinesConfig):
    """A command that looks at the videos of a clip list."""

    list: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/list.txt", often=True
    )
    """Clip list of the videos."""


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
