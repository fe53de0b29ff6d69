"""Tables of clips that no video is behind, and metadata, for the stages that do not decode."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from videomae.curate import table as tables


def fill(out: Path, **columns: list[Any]) -> Path:
    """Write sources.parquet and the file of stage measure: each row a video of one clip."""
    size = len(next(iter(columns.values())))
    names = [f"{number:03}" for number in range(size)]
    given = {
        "source_sha256": names,
        "source_path": [f"v/{name}.mp4" for name in names],
        "clip_id": [tables.clip_id(name, 0, 50) for name in names],
        "start_frame": [0] * size,
        "end_frame": [50] * size,
        "start_s": [0.0] * size,
        "end_s": [2.0] * size,
        "is_longest": [True] * size,
        "width_px": [640] * size,
        "height_px": [360] * size,
        "copy_of": [None] * size,
        "error": [None] * size,
    } | columns
    out.mkdir(parents=True, exist_ok=True)
    (out / "root.json").write_text(json.dumps({"root": str(out)}))
    kinds = tables.COLUMNS | {"copy_of": pa.string(), "video_id": pa.string()}
    identity = [*tables.IDENTITY.keys() - {"clip_id"}, "copy_of"]
    known = {
        name: pa.array(given.get(name, [None] * size), kinds[name])
        for name in [*identity, *tables.MEASURED]
    }
    sources = {name: known[name] for name in identity}
    sources["error"] = pa.nulls(size, pa.string())
    tables.write_table(out / tables.SOURCES, pa.table(sources))
    measured = pa.table({name: known[name] for name in tables.MEASURED})
    tables.write_stage(out, tables.MEASURE, measured)
    return out


def many(out: Path, size: int) -> Path:
    """A table of many clips with scores at random, some of them missing."""
    rng = np.random.default_rng(0)

    def scores(low: float, high: float) -> Any:
        return pa.array(rng.uniform(low, high, size), mask=rng.random(size) < 0.01)

    names = [f"{number:08}" for number in range(size)]
    columns = {
        "clip_id": [tables.clip_id(name, 0, 50) for name in names],
        "source_sha256": names,
        "start_s": [0.0] * size,
        "end_s": rng.uniform(0, 20, size),
        "is_longest": rng.random(size) < 0.7,
        "width_px": rng.integers(200, 2000, size),
        "height_px": rng.integers(200, 2000, size),
        "sharpness": scores(0, 1000),
        "luma_mean": scores(0, 255),
        "luma_std": scores(0, 100),
        "bars_fraction": scores(0, 1),
        "motion_px_per_s": scores(0, 0.1),
        "frozen_fraction": scores(0, 1),
    }
    made = {
        name: pa.array(columns[name], kind) if name in columns else pa.nulls(size, kind)
        for name, kind in tables.MEASURED.items()
    }
    sources = {
        name: pa.nulls(size, kind) for name, kind in tables.IDENTITY.items() if name != "clip_id"
    }
    sources |= {"copy_of": pa.nulls(size, pa.string()), "error": pa.nulls(size, pa.string())}
    sources |= {"source_sha256": pa.array(names), "source_path": pa.array(names)}
    sources["hashtags"] = pa.array([["dance", "salsa"][: number % 3] for number in range(size)])
    out.mkdir(parents=True, exist_ok=True)
    tables.write_table(out / tables.SOURCES, pa.table(sources))
    tables.write_stage(out, tables.MEASURE, pa.table(made))
    return out


def write_info(video: Path, **fields: Any) -> None:
    """Write the .info.json of yt-dlp beside a video."""
    known = {"id": video.stem, "extractor_key": "TikTok", "uploader": f"maker of {video.stem}"}
    video.with_suffix(".info.json").write_text(json.dumps(known | fields), encoding="utf-8")
