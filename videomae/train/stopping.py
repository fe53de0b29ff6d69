"""Rules that stop a run: too many unreadable videos, non-finite gradients, loss spikes.

Add a rule here. It sets `HealthMonitor.failure`; the trainer saves a checkpoint and raises it.
"""

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videomae.config import UserError
from videomae.data.dataset import Item, TrainingClips
from videomae.data.loader import TrainingOrder, training_loader
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.lists.tolerance import JUDGED_FROM, too_many_bad
from videomae.run.bad_files import TRAIN, BadFile
from videomae.run.directory import BAD_FILES
from videomae.run.run import Run
from videomae.run.sidefiles import is_bad_file, read_rows
from videomae.train.log import Log
from videomae.train.step_range import StepRange

RECENT, ENOUGH = 100, 20
"""Number of last losses that a new loss is compared with, and the least number for it."""
SPIKE = 6.0
"""Standard deviations above the median loss from which on a loss is a spike."""
MIN_SPIKE = 0.01
"""Least height of a spike above the median loss, as a share of that loss."""
TO_SIGMA = 1.4826
"""Factor from the median absolute deviation to a normal distribution's standard deviation."""


class TooManyBadVideos(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """Error: more files than data.max_bad_fraction allows are unreadable, or all tried ones are."""


class NonFiniteError(UserError):
    """Error: the gradient was not finite in run.max_nonfinite steps in a row."""


class HealthMonitor:
    """Monitor of unreadable videos, gradients and losses; its state is equal on all processes.

    Args:
        clips: the training list.
        bad: files already known to be unreadable, by index.
        max_bad_fraction: share of bad files above which the run fails; one file never fails it.
    """

    def __init__(
        self,
        run: Run,
        clips: ClipList,
        steps: StepRange,
        log: Log,
        bad: dict[int, BadFile],
        max_bad_fraction: float,
    ) -> None:
        self.run = run
        self.clips = clips
        self.steps = steps
        self.log = log
        self.bad = bad  # by index in the list, where a file may stand more than once
        self.max_bad_fraction = max_bad_fraction
        self.failure: UserError | None = None
        """Error for which the run must stop once the step's checkpoint is complete; None: none."""
        self._file_of = clips.files()
        self._opened = np.zeros(len(clips), dtype=bool)  # those that no tombstone names
        self._opened[clips.kept()] = True
        self._tried = np.zeros(self._file_of.max() + 1, dtype=bool)  # by the number of the file
        self._tried[self._file_of[steps.order.tried(steps.start) & self._opened]] = True
        self._nonfinite: list[int] = []  # the latest steps in a row without a finite gradient
        self._losses: deque[float] = deque(maxlen=RECENT)

    @property
    def num_bad(self) -> int:
        """Number of different unreadable files."""
        return len({file.key for file in self.bad.values()})

    def files(self, step: int, own: Sequence[BadFile], *, found: bool) -> None:
        """Share newly found unreadable files between processes, and fail if there are too many.

        Args:
            own: unreadable files that this process found in the step.
            found: whether any process found one.
        """
        if found:
            known = {file.key for file in self.bad.values()}
            new = [file for part in self.run.processes.gather(own) for file in part]
            self.bad.update((file.video, file) for file in new)
            by_key = {file.key: file for file in reversed(new)}
            self.log.bad_files([file for key, file in by_key.items() if key not in known])
        batch = self.steps.plan.global_batch
        places = np.array([item.video for item in self.steps.order.global_items(step)])
        self._tried[self._file_of[places[self._opened[places]]]] = True
        epoch_ends = step % self.steps.plan.steps_per_epoch == 0
        enough = (step - 1) * batch < JUDGED_FROM <= step * batch
        if not self.bad or not (found or epoch_ends or enough or step == self.steps.last):
            return
        tried, num_bad = int(np.count_nonzero(self._tried)), self.num_bad
        too_many = too_many_bad(num_bad, tried, self.max_bad_fraction)
        if (too_many and (tried >= JUDGED_FROM or epoch_ends)) or (
            num_bad == tried and step == self.steps.last
        ):
            self.failure = TooManyBadVideos(
                f"{num_bad} of the {tried} videos tried so far cannot be read (limit "
                f"{self.max_bad_fraction:.1%}, data.max_bad_fraction; one file is always put up "
                "with); bad_files.jsonl in the output_dir names them, python -m videomae.scan "
                "tells of the whole list. Mend the files or raise the limit, and go on with "
                "resume=auto; with another list it is another run"
            )

    def gradient(self, step: int, norm: float, lr: float) -> None:
        """Fail after run.max_nonfinite steps in a row with a non-finite gradient, so no update."""
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
            f"Clips of these steps: {shown}. A lower optim.lr, optim.clip_grad or "
            "run.precision=float32 are the usual remedies"
        )

    def loss(self, step: int, loss: float | None) -> None:
        """Log a loss far above those before it, with its clips; None: no video could be read.

        A loss is a spike if it is not finite, or if it exceeds the median of the last RECENT losses
        by more than SPIKE times 1.4826 median absolute deviations and by MIN_SPIKE of the median.
        """
        if loss is None:
            self.log.unread(step, self.steps.plan.global_batch)
            return
        if len(self._losses) >= ENOUGH or not math.isfinite(loss):
            recent = np.array(self._losses or [math.nan])
            usual = float(np.median(recent))
            sigma = TO_SIGMA * float(np.median(np.abs(recent - usual)))
            if not loss <= usual + max(SPIKE * sigma, MIN_SPIKE * abs(usual)):
                self.log.spike(step, loss, usual, self._paths(step))
        if math.isfinite(loss):
            self._losses.append(loss)

    def _paths(self, step: int) -> list[str]:
        """List the paths of a step's videos, on all processes."""
        return [self.clips[item.video].path for item in self.steps.order.global_items(step)]


def known_bad(
    directory: Path, dataset: TrainingClips, order: TrainingOrder, start: int, workers: int
) -> dict[int, BadFile]:
    """Find the unreadable files that a run has met by the end of step `start`, by index.

    Files that have been repaired since are left out.
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
    """Read the training videos listed in a run's bad_files.jsonl, by their index in the list."""
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
            span = clips[index].span
            bad[index] = BadFile(index, row["path"], row["line"], row["error"], source, span)
    return bad
