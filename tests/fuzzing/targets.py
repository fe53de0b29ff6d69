"""All targets of the harness."""

from tests.fuzzing import weights
from tests.fuzzing.base import Target

TARGETS: tuple[Target, ...] = (*weights.TARGETS,)
