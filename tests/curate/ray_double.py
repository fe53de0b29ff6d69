"""A program that measures with the Ray engine and tests.curate.doubles, and prints what came out.

python -m tests.curate.ray_double OUT '{"address": null, "workers": 2}' NAME...
"""

import json
import logging
import sys
from pathlib import Path

from tests.curate.doubled import DOUBLES, errors, jobs
from videomae.config import EngineConfig, EngineName, UserError
from videomae.curate import engine, ray_engine, ray_task
from videomae.curate.ray_engine import RayEngine
from videomae.curate.shards import Shards


def main(out: Path, settings: dict[str, object], names: list[str]) -> None:
    """Measure names as they say; `constants` among the settings are those of the engine."""
    for name, value in dict(settings.pop("constants", {})).items():  # type: ignore[call-overload]
        setattr(
            next(each for each in (engine, ray_task, ray_engine) if hasattr(each, name)),
            name,
            value,
        )
    engine.PROGRAM = DOUBLES
    logging.basicConfig(level=logging.INFO)
    config = EngineConfig(name=EngineName.ray, **settings)  # type: ignore[arg-type]
    found: dict[str, object] = {}
    try:
        totals = RayEngine(config, {}, Shards(out)).measure(jobs(out, *names), 0)
        found |= {"videos": totals.videos, "total_s": totals.total_s, "note": totals.note()}
    except (UserError, OSError) as error:
        found["refused"] = f"{type(error).__name__}: {error}"
    print(json.dumps(found | {"errors": errors(out, *names)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
