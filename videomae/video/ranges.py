"""Ranges of videos: a reader for some of a video's frames, which counts them from 0."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from videomae.lists.formats import Span, span_told
from videomae.video.interface import DecodeError, Frames, Part, Video


def frames_of_span(span: Span, num_frames: int) -> range:
    """Return the numbers of the frames of a range.

    Args:
        num_frames: number of frames in the video.

    Raises:
        ValueError: the range lies outside of the video.
    """
    start, end = span
    end = num_frames if end is None else end
    if not 0 <= start < end <= num_frames:
        raise ValueError(f"{span_told(span)} lie outside of the video, which has {num_frames}")
    return range(start, end)


class VideoRange:
    """A range of an open video, which reads as a video of that length would.

    Args:
        path: name of the video in error messages.

    Raises:
        DecodeError: the range lies outside of the video.
    """

    def __init__(self, path: Path, video: Video, span: Span) -> None:
        self.path = path
        self.video = video
        try:
            self.frames = frames_of_span(span, video.num_frames)
        except ValueError as error:
            raise DecodeError(f"{path}: {error}") from error
        self.fps = video.fps
        stride = video.reference_stride
        self.reference_stride = 1 if self.frames.start % stride else stride

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        return self.video.parts(self._of_video(numbers))

    def read(self, indices: Sequence[int]) -> Frames:
        return self.video.read(self._of_video(indices))

    def _of_video(self, numbers: Sequence[int]) -> list[int]:
        """Return the frames' numbers in the video.

        Raises:
            DecodeError: one lies outside of the range.
        """
        for number in numbers:
            if not 0 <= number < self.num_frames:
                raise DecodeError(
                    f"{self.path}: the range has {self.num_frames} frames, asked for {number}"
                )
        return [self.frames.start + number for number in numbers]
