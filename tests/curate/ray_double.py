"""A program that measures with the Ray engine and tests.curate.doubles, and prints what came out.

python -m tests.curate.ray_double OUT '{"address": null, "workers": 2}' NAME...
"""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.curate.doubled import DOUBLES, errors, jobs
from videomae.config import EngineConfig, EngineName, UserError
from videomae.curate import engine, ray_engine
from videomae.curate.ray_engine import RayEngine, RunningBatch
from videomae.curate.ray_task import BatchOrder
from videomae.curate.shards import Shards


class Replacing(RayEngine):
    """A Ray engine in whose tasks some fields are others."""

    replaced: dict[str, Any]

    def _order(self, batch: RunningBatch) -> BatchOrder:
        return replace(super()._order(batch), **self.replaced)


def main(out: Path, settings: dict[str, Any], names: list[str]) -> None:
    """Measure names as they say."""
    replaced = settings.pop("replaced", {})
    logging.basicConfig(level=logging.INFO)
    made = Replacing(EngineConfig(name=EngineName.ray, **settings), {}, Shards(out))
    made.replaced = replaced
    found: dict[str, Any] = {}
    try:
        totals = made.measure(jobs(out, *names), 0)
        found |= {"videos": totals.videos, "total_s": totals.total_s, "note": totals.note()}
    except (UserError, OSError) as error:
        found["refused"] = f"{type(error).__name__}: {error}"
    print(json.dumps(found | {"errors": errors(out, *names)}))


if __name__ == "__main__":
    with patch.object(engine, "PROGRAM", DOUBLES), patch.object(ray_engine, "TOKEN_S", 1.0):
        main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
