"""All targets of the harness."""

from tests.fuzzing import checkpoints, lists, packs, progress, runs, videos, weights
from tests.fuzzing.base import Target

TARGETS: tuple[Target, ...] = (
    *weights.TARGETS,
    *checkpoints.TARGETS,
    *runs.TARGETS,
    *packs.TARGETS,
    *lists.TARGETS,
    *progress.TARGETS,
    *videos.TARGETS,
)
