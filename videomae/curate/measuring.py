"""Measure one video: decode it once, cut it into clips, and compute every score of each clip.

The engine runs this module as a program, so that a decoder that crashes or hangs affects one video
only. It then reads one JSON array [path, source_sha256, settings, target, max_bytes] a line, writes
the clips to `target`, and answers each with one line, the JSON object of a Measured.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2

from videomae.config import CurateConfig, CutMethod, CutsConfig, Scenes
from videomae.curate.cuts import FIXED, ContentCutter, Cut, Cutter, FixedCutter
from videomae.curate.observers import OBSERVERS, Observer
from videomae.curate.picture import Picture, Shrinker
from videomae.curate.shards import write_measured
from videomae.curate.table import MEASURED, clip_id
from videomae.run.files import sha256
from videomae.run.worker_pool import serve
from videomae.video.container import mean_rate
from videomae.video.inspection import Inspection, inspect_video

SAMPLE_S = 0.5
"""Seconds from one sampled frame to the next."""
UNKNOWN_FPS = 25
"""Frame rate of videos that tell none and whose frames have no times."""
AFTER_CHANGE = 7
"""Frames after a change of the content at which a frame is sampled: each clip has one, then."""
CHANGED = "changed"
"""Beginning of the error of a file that is not the one that stage sources saw."""
UNREADABLE = f"{CHANGED}: it cannot be read any more"
"""Beginning of the error of a file that was there for stage sources, and cannot be read."""


@dataclass(frozen=True)
class Settings:
    """Settings of a measurement that its results depend on."""

    fixed: bool
    """Whether the clips are pieces of a fixed duration."""
    threshold: float
    min_frames: int
    fixed_s: float
    probability: float | None = None
    """Probability from which TransNetV2 sees a transition; None: cuts are not found by it."""
    network: str | None = None
    """SHA-256 of the weights of TransNetV2; None: likewise."""

    @classmethod
    def of(cls, config: CurateConfig) -> "Settings":
        """Return the settings of a config; those that do not count are at their defaults.

        Raises:
            ConfigError: cuts.method=transnetv2 lacks its package.
        """
        usual, cuts = CutsConfig(), config.cuts
        if config.scenes is Scenes.fixed:
            return cls(True, usual.threshold, usual.min_frames, cuts.fixed_s)
        if cuts.method is CutMethod.content:
            return cls(False, cuts.threshold, cuts.min_frames, usual.fixed_s)
        from videomae.curate.transnet import weights_sha256

        plain = cls(False, usual.threshold, usual.min_frames, usual.fixed_s)
        return replace(plain, probability=cuts.probability, network=weights_sha256())

    def cutter(self) -> Cutter:
        """Return a new cutter for one video."""
        cuts = CutsConfig(threshold=self.threshold, min_frames=self.min_frames)
        if self.fixed:
            return FixedCutter(replace(cuts, fixed_s=self.fixed_s))
        if self.probability is None:
            return ContentCutter(cuts)
        from videomae.curate.transnet import TransNetCutter

        return TransNetCutter(replace(cuts, probability=self.probability))

    def sent(self) -> dict[str, Any]:
        """Return the settings as the program takes them, without those of a cutter that is not
        used: results of commits that had none stay what they are."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Measured:
    """Answer of the program to one request."""

    clips: int = 0
    """Number of clips that were written."""
    error: str | None = None
    """Reason why the video was measured in part, or not at all."""
    total_s: float = 0.0
    """Seconds that measuring took."""
    decode_s: float = 0.0
    """Seconds of it that decoding took."""
    video_s: float = 0.0
    """Duration of the video, in seconds."""
    out_of_disk: tuple[int, str] | None = None
    """Number and message of an error in writing the file; None: there was none."""


class ClipMeasurement:
    """The observers of one clip, and its place in the video."""

    def __init__(self, start: int, start_s: float) -> None:
        self.start, self.start_s = start, start_s
        self.end, self.last_s = start, start_s
        self.observers: list[Observer] = [kind() for kind in OBSERVERS]

    def add(self, picture: Picture, index: int, time_s: float) -> None:
        """Take the next frame of the clip."""
        self.end, self.last_s = index + 1, time_s
        for observer in self.observers:
            observer.add(picture, index, time_s)

    def finish(self, end_s: float) -> dict[str, Any]:
        """Return the columns of the clip that follow from its frames."""
        place = {"start_frame": self.start, "end_frame": self.end}
        row: dict[str, Any] = {**place, "start_s": self.start_s, "end_s": end_s}
        for observer in self.observers:
            row |= observer.finish()
        return row


class VideoMeasurement:
    """Measurement of one video, whose frames are given in order as they are decoded.

    Args:
        fps: frame rate of the video, for the times of frames that have none; None: not known.
    """

    def __init__(self, settings: Settings, fps: float | None) -> None:
        self.fps = fps
        self.cutter = settings.cutter()
        self.shrink = Shrinker()
        self.count = 0
        self.spent_s = 0.0
        """Seconds spent on anything but decoding."""
        self.first_time: float | None = None
        self.sampled_s = 0.0
        self.waiting: deque[tuple[Picture, int, float]] = deque()
        """Frames of which it is not settled yet whether a clip begins before them."""
        self.between = False
        """Whether the first frame that waits is between two clips, and so of none."""
        self.clip: ClipMeasurement | None = None
        self.rows: list[dict[str, Any]] = []

    def add(self, frame: av.VideoFrame) -> None:
        """Take the next frame."""
        began = time.perf_counter()
        index, time_s = self.count, self._time(frame)
        self.count += 1
        sampled = self._is_sampled(index, time_s)
        picture = self.shrink(frame, sampled=sampled)
        self.waiting.append((picture, index, time_s))
        self._end_clips(self.cutter.add(picture, index, time_s))
        unsettled = self.cutter.unsettled
        self._flush(index + 1 if unsettled is None else unsettled)
        self.spent_s += time.perf_counter() - began

    def _time(self, frame: av.VideoFrame) -> float:
        """Return the time of a frame after the first one, in seconds.

        A frame without a time has its number over the frame rate.
        """
        given = frame.time
        if given is None:
            return round(self.count / (self.fps or UNKNOWN_FPS), 6)
        if self.first_time is None:
            self.first_time = given
        return round(given - self.first_time, 6)

    def _is_sampled(self, index: int, time_s: float) -> bool:
        change = self.cutter.last_change
        if index == 0 or time_s >= self.sampled_s + SAMPLE_S or time_s < self.sampled_s:
            self.sampled_s = time_s
            return True
        return change is not None and index == change + AFTER_CHANGE

    def _flush(self, end: int) -> None:
        """Give the frames before number `end` to the observers of the present clip."""
        while self.waiting and self.waiting[0][1] < end:
            picture, index, time_s = self.waiting.popleft()
            if self.between:
                continue
            if self.clip is None:
                self.clip = ClipMeasurement(index, time_s)
            self.clip.add(picture, index, time_s)

    def _end_clips(self, cuts: Sequence[Cut]) -> None:
        for cut in cuts:
            self._flush(cut.frame)
            if self.clip is not None:
                self.rows.append(self.clip.finish(self.waiting[0][2]))
            self.clip, self.between = None, not cut.begins

    def finish(self) -> list[dict[str, Any]]:
        """Return the columns of each clip that follow from its frames."""
        began = time.perf_counter()
        self._end_clips(self.cutter.finish())
        self._flush(self.count)
        if self.clip is not None:
            step = 1 / self.fps if self.fps else 0.0
            self.rows.append(self.clip.finish(round(self.clip.last_s + step, 6)))
        lengths = [row["end_frame"] - row["start_frame"] for row in self.rows]
        longest = lengths.index(max(lengths)) if lengths else None
        for number, row in enumerate(self.rows):
            row["cut_method"] = self.cutter.method
            row["is_longest"] = None if self.cutter.method == FIXED else number == longest
        self.spent_s += time.perf_counter() - began
        return self.rows


def measure_video(
    path: Path, source_sha256: str, settings: Settings, max_bytes: int
) -> tuple[list[dict[str, Any]], Measured]:
    """Measure one video file.

    A damaged video has the clips before the damage, each with the error; one of which nothing can
    be decoded has one row with the error alone.

    Args:
        source_sha256: SHA-256 that the file had for stage sources.
        max_bytes: bytes of memory that reading the video may take.

    Returns:
        the rows of its clips, none if the file has changed; and the answer of the program.
    """
    began = time.perf_counter()
    try:
        now = sha256(path)
    except OSError as error:
        return [], Measured(error=f"{UNREADABLE} ({error.strerror})")
    if now != source_sha256:
        reason = "it is not the file that stage=sources saw: run stage=sources again"
        return [], Measured(error=f"{CHANGED}: {reason}")
    measurement = VideoMeasurement(settings, mean_rate(path))
    found = inspect_video(path, measurement.add, max_bytes=max_bytes)
    clips = measurement.finish()
    media = _media(found)
    rows = [{**media, **row, "error": found.error} for row in clips]
    nothing = found.error or ("no frame but those of one transition" if found.ok else "no frame")
    rows = rows or [error_row(source_sha256, nothing) | media]
    for row in rows:
        row["source_sha256"] = source_sha256
        row["clip_id"] = clip_id(source_sha256, row["start_frame"], row["end_frame"])
    total_s = time.perf_counter() - began
    answer = Measured(
        clips=len(rows),
        error=found.error,
        total_s=total_s,
        decode_s=total_s - measurement.spent_s,
        video_s=found.duration_s or 0.0,
    )
    return rows, answer


def error_row(source_sha256: str, error: str) -> dict[str, Any]:
    """Return the row of a video of which nothing could be measured."""
    known = {"source_sha256": source_sha256, "clip_id": clip_id(source_sha256, None, None)}
    return dict.fromkeys(MEASURED) | known | {"error": error}


def _media(found: Inspection) -> dict[str, Any]:
    bitrate = None
    if found.ok and found.duration_s and found.bytes:
        bitrate = round(found.bytes * 8 / found.duration_s / 1000, 3)
    return {
        "width_px": found.width,
        "height_px": found.height,
        "fps": found.fps,
        "codec": found.codec,
        "bitrate_kbps": bitrate,
        "decode_errors": None if found.num_frames == 0 else int(not found.ok),
    }


def answer_request(
    path: str, source_sha256: str, settings: dict[str, Any], target: str, max_bytes: int
) -> Measured:
    """Measure a video and write its clips: the answer to one request of the engine."""
    rows, answer = measure_video(Path(path), source_sha256, Settings(**settings), max_bytes)
    if rows:
        try:
            write_measured(Path(target), rows)
        except OSError as error:
            number = error.errno or errno.EIO
            return Measured(out_of_disk=(number, os.strerror(number)))
    return answer


def prepare(path: str, source_sha256: str, settings: dict[str, Any], *_: object) -> None:
    """Load what requests like this one need, before the memory is limited."""
    if Settings(**settings).network is not None:
        from videomae.curate.transnet import network

        network()


def settings_of(config: CurateConfig) -> dict[str, object]:
    """Return the settings of a measurement as they are sent to the program."""
    return Settings.of(config).sent()


if __name__ == "__main__":
    cv2.setNumThreads(1)  # one process per core
    serve(answer_request, prepare)
