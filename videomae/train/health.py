"""Watch the steps of a run for what is wrong: unreadable videos, gradients, losses."""

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videomae.config import UserError
from videomae.data.dataset import Item, TrainingClips
from videomae.data.loader import TrainingOrder, training_loader
from videomae.lists.clips import Clip, ClipList
from videomae.lists.tolerance import JUDGED_FROM, too_many_bad
from videomae.run.bad_files import TRAIN, BadFile
from videomae.run.directory import BAD_FILES
from videomae.run.run import Run
from videomae.run.sidefiles import is_bad_file, read_rows
from videomae.train.course import Course
from videomae.train.log import Log

RECENT, ENOUGH = 100, 20
"""Losses that a new one is held against, and how few of them will do."""
SPIKE = 6.0
"""Standard deviations above the usual loss."""
LEAST = 0.01
"""Of the usual loss: no less above it is far."""
TO_SIGMA = 1.4826
"""Times the median absolute deviation: the standard deviation of a normal distribution."""


class TooManyBadVideos(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """More files than data.max_bad_fraction allows cannot be read, or none of those tried can."""


class NonFiniteError(UserError):
    """run.max_nonfinite steps in a row had no finite gradient."""


class HealthMonitor:
    """Look at every step, and say what people should know; alike on all processes.

    Args:
        clips: the training list.
        bad: files already known to be unreadable, by index.
        max_bad_fraction: share of bad files above which the run fails; one file never fails it.
    """

    def __init__(
        self,
        run: Run,
        clips: ClipList,
        course: Course,
        log: Log,
        bad: dict[int, BadFile],
        max_bad_fraction: float,
    ) -> None:
        self.run = run
        self.clips = clips
        self.course = course
        self.log = log
        self.bad = bad  # by index in the list, where a file may stand more than once
        self.max_bad_fraction = max_bad_fraction
        self.failure: UserError | None = None
        """What the run must stop for, once the step's checkpoint is complete."""
        self._file_of = clips.files()
        self._tried = np.zeros(self._file_of.max() + 1, dtype=bool)  # by the number of the file
        self._tried[self._file_of[course.order.tried(course.start)]] = True
        self._nonfinite: list[int] = []  # the latest steps in a row without a finite gradient
        self._losses: deque[float] = deque(maxlen=RECENT)

    @property
    def num_bad(self) -> int:
        """Unreadable files."""
        return len({file.key for file in self.bad.values()})

    def files(self, step: int, own: Sequence[BadFile], *, found: bool) -> None:
        """Share what each process found; fail where it is too much.

        Args:
            own: what this process found.
            found: whether any process found something.
        """
        if found:
            known = {file.key for file in self.bad.values()}
            new = [file for part in self.run.processes.gather(own) for file in part]
            self.bad.update((file.video, file) for file in new)
            by_key = {file.key: file for file in reversed(new)}
            self.log.bad_files([file for key, file in by_key.items() if key not in known])
        batch = self.course.plan.global_batch
        self._tried[
            self._file_of[[item.video for item in self.course.order.global_items(step)]]
        ] = True
        epoch_ends = step % self.course.plan.steps_per_epoch == 0
        enough = (step - 1) * batch < JUDGED_FROM <= step * batch
        if not self.bad or not (found or epoch_ends or enough or step == self.course.last):
            return
        tried, num_bad = int(np.count_nonzero(self._tried)), self.num_bad
        too_many = too_many_bad(num_bad, tried, self.max_bad_fraction)
        if (too_many and (tried >= JUDGED_FROM or epoch_ends)) or (
            num_bad == tried and step == self.course.last
        ):
            self.failure = TooManyBadVideos(
                f"{num_bad} of the {tried} videos tried so far cannot be read (limit "
                f"{self.max_bad_fraction:.1%}, data.max_bad_fraction; one file is always put up "
                "with); bad_files.jsonl in the output_dir names them, python -m videomae.scan "
                "tells of the whole list. Mend the files or raise the limit, and go on with "
                "resume=auto; with another list it is another run"
            )

    def gradient(self, step: int, norm: float, lr: float) -> None:
        """Fail after run.max_nonfinite steps in a row whose update was left out."""
        if isinstance(self.failure, NonFiniteError):
            return
        if math.isfinite(norm):
            self._nonfinite.clear()
            return
        self._nonfinite.append(step)
        if len(self._nonfinite) < self.run.settings.max_nonfinite:
            return
        paths = [path for step in self._nonfinite for path in self._paths(step)]
        shown = ", ".join(paths[:8]) + (f" and {len(paths) - 8} more" if len(paths) > 8 else "")
        self.failure = NonFiniteError(
            f"the gradient was not finite in steps {self._nonfinite} (lr {lr:.3g}, "
            f"run.max_nonfinite={self.run.settings.max_nonfinite}); their updates were left out. "
            f"Clips of these steps: {shown}. A lower optim.base_lr, optim.clip_grad or "
            "run.precision=float32 are the usual remedies"
        )

    def loss(self, step: int, loss: float) -> None:
        """Log a loss far above those before it, with its clips.

        Far: more than SPIKE times 1.4826 median absolute deviations above the median of the last
        RECENT losses, and by LEAST of it; or not finite.
        """
        if len(self._losses) >= ENOUGH or not math.isfinite(loss):
            recent = np.array(self._losses or [math.nan])
            usual = float(np.median(recent))
            sigma = TO_SIGMA * float(np.median(np.abs(recent - usual)))
            if not loss <= usual + max(SPIKE * sigma, LEAST * abs(usual)):
                self.log.spike(step, loss, usual, self._paths(step))
        if math.isfinite(loss):
            self._losses.append(loss)

    def _paths(self, step: int) -> list[str]:
        """Of the videos of all processes."""
        return [self.clips[item.video].path for item in self.course.order.global_items(step)]


def known_bad(
    directory: Path, dataset: TrainingClips, order: TrainingOrder, start: int, workers: int
) -> dict[int, BadFile]:
    """The unreadable files that a run has met by the end of step `start`, by index.

    Those that have been mended since are forgotten.
    """
    clips = dataset.clips
    tried = order.tried(start)
    known = read_bad_files(directory, clips)
    again = [[Item(0, index)] for index in known if tried[index]]
    workers = min(len(again), workers)
    batches = training_loader(dataset, again, size=1, workers=workers, pin=False)
    still = {file.video for batch in batches for file in batch.bad}
    return {index: file for index, file in known.items() if index in still}


def read_bad_files(directory: Path, clips: Sequence[Clip]) -> dict[int, BadFile]:
    """The training videos that a resumed run already knows to be unreadable, by index."""
    known = read_rows(directory / BAD_FILES, is_bad_file)
    rows = [row for row in known if row["list"] == TRAIN]
    clips = ClipList.of(clips)
    places = clips.on_lines([row["line"] for row in rows])
    found = zip(clips.take(places), places.tolist(), strict=True)
    index_of_line = {(clip.source, clip.line): index for clip, index in found}
    bad = {}
    for row in rows:
        source = row.get("source", "data")
        index = index_of_line.get((source, row["line"]))
        if index is not None:
            bad[index] = BadFile(index, row["path"], row["line"], row["error"], source)
    return bad
