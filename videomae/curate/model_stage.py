"""The course of stages persons, text and embed: which clips, the processes, the results, the table.

A clip that an earlier rule drops is not looked at, and its columns stay null. A clip of which the
model's process crashes or takes too long is tried once more while nothing else runs, and is then
named, with null columns.
"""

import base64
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from videomae.config import ConfigError, CurateConfig, CurateStage, UserError
from videomae.curate.clip_models import ClipAnswer, ModelSpec
from videomae.curate.model_results import ModelResults, key_of
from videomae.curate.selection import dropped_before_models, dropped_by_select
from videomae.curate.sources import root_of
from videomae.curate.table import STAGES, by_clip_id, read_clips_table, write_stage
from videomae.curate.tombstones import CorpusTombstones
from videomae.lists.walk import printable
from videomae.run.console import Facts, progress_bar
from videomae.run.cores import available_cores
from videomae.run.files import write_text
from videomae.run.worker_pool import CRASHED, Answer, ended_from_outside, run_all

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-m", "videomae.curate.clip_models")
"""The program that computes columns of one clip after another."""
MODEL_BYTES = 6 * 10**9
"""Bytes of memory that a model's computation may take besides decoding, on the CPU."""
MOST_KILLS = 20
"""How often in all a process may be ended from outside while it is at one clip."""
ON_GPU = 4
"""Number of processes that share a GPU, unless engine.workers says another."""
NAMED = 10
"""Largest number of clips with a problem that are named one by one."""


@dataclass(frozen=True)
class ClipJob:
    """A clip to look at."""

    clip_id: str
    path: Path
    source_sha256: str
    start: int
    end: int


@dataclass(frozen=True)
class ModelStage:
    """A stage that needs a model."""

    name: str
    """Name of the stage, and of the folder of its results."""
    spec: ModelSpec
    """Settings of the program."""
    columns: Mapping[str, Any]
    """Names and Arrow types of what the program answers."""
    settings: Mapping[str, Any]
    """Settings that results depend on, and the SHA-256 of the model's files."""
    versions: Mapping[str, str]
    """Versions of the packages that compute the results."""
    given: Mapping[str, Any] | None = None
    """By clip_id: what the program gets of a clip besides the clip; None: nothing, of all clips."""


@dataclass
class Looked:
    """Sums over the clips that were looked at in this call."""

    clips: int = 0
    total_s: float = 0.0
    changed: dict[str, str] = field(default_factory=dict)
    """Reason by path of each video that is not the one that stage sources saw."""


def jobs_of(config: CurateConfig, out: Path) -> list[ClipJob]:
    """Return the clips that a model looks at: those that nothing drops so far.

    With stage=all that is by the rules of this command and what is measured; else by the decision
    of the last stage=select, if there was one. What a model found is no reason to look again or
    not to.
    """
    table = read_clips_table(out)
    forgotten = CorpusTombstones.read(out)
    if config.stage is CurateStage.all:
        dropped, by = (
            dropped_before_models(config, out, table),
            "by the rules about what is measured",
        )
    else:
        dropped = dropped_by_select(table)
        has_run = table["keep"].null_count < table.num_rows
        by = "by the last stage=select" if has_run else "as stage=select has not run"
    whole = pc.and_(pc.is_null(table["error"]), pc.is_valid(table["end_frame"]))
    left = table.filter(pc.and_(whole, pa.array(~dropped)))
    root = root_of(config, out)
    if left.num_rows and not root.is_dir():
        raise ConfigError(f"the videos lay below {root}, which is not there: give source=FOLDER")
    logger.info(f"{left.num_rows:,} of {table.num_rows:,} clips are left to look at, {by}")
    names = ["clip_id", "source_path", "source_sha256", "start_frame", "end_frame"]
    rows = left.select(names).sort_by([("source_sha256", "ascending"), ("clip_id", "ascending")])
    return [
        ClipJob(row["clip_id"], root / row["source_path"], *(row[name] for name in names[2:]))
        for row in rows.to_pylist()
        if row["clip_id"] not in forgotten.clips and row["source_sha256"] not in forgotten.sources
    ]


class ModelEngine:
    """Looks at clips in processes of this machine."""

    def __init__(self, config: CurateConfig, stage: ModelStage, out: Path) -> None:
        self.config, self.stage = config.engine, stage
        self.on_gpu = stage.spec.device == "cuda"
        self.key = key_of(stage.settings)
        limits = [self.config.timeout_s, self.config.max_clip_bytes]
        self.failure_key = key_of({**stage.settings, "limits": limits})
        """Key of errors, which hold for one time limit and one limit of memory."""
        self.results = ModelResults(out, stage.name, stage.columns, self.config.shard)
        self.looked = Looked()

    @property
    def keys(self) -> set[str]:
        """Keys of the results and errors of the present settings."""
        return {self.key, self.failure_key}

    def run(self, jobs: Sequence[ClipJob]) -> None:
        """Look at the clips that have no result yet.

        Raises:
            UserError: the process of one clip is ended again and again, or of every clip.
            OSError: the results cannot be written.
        """
        done = self.results.done(self.keys)
        todo = [job for job in jobs if job.clip_id not in done]
        if len(todo) < len(jobs):
            logger.info(f"{len(jobs) - len(todo):,} of {len(jobs):,} clips are done already")
        most = ON_GPU if self.on_gpu else available_cores()
        workers = min(self.config.workers or most, max(1, len(todo)))
        suspects: dict[ClipJob, str] = {}
        began = time.monotonic()
        try:
            with progress_bar(self.stage.name, len(jobs), len(jobs) - len(todo)) as bar:
                for job, answer in self._answers(todo, workers):
                    if isinstance(answer, str):
                        suspects[job] = answer
                        if len(suspects) >= MOST_KILLS and not self.looked.clips:
                            self._give_up(job, answer)
                        continue
                    self._take(job, ClipAnswer(**answer))
                    rate = self.looked.clips / max(1e-9, time.monotonic() - began)
                    bar.advance(note=f"{rate:.2f} clips/s")
                for job, answer in self._answers(list(suspects), 1):
                    self._take_again(job, answer)
                    bar.advance()
        finally:
            self.results.flush()

    def _answers(self, jobs: Sequence[ClipJob], workers: int) -> Iterator[tuple[ClipJob, Answer]]:
        """Yield each clip with its answer; those whose process others end are tried again."""
        kills: dict[ClipJob, int] = {}
        waiting = list(jobs)
        while waiting:
            again = []
            requests = ((job, self._request(job)) for job in waiting)
            command = (*PROGRAM, self.stage.spec.text())
            for job, answer in run_all(command, requests, workers, self.config.timeout_s):
                if isinstance(answer, str) and ended_from_outside(answer):
                    kills[job] = kills.get(job, 0) + 1
                    again.append(job)
                    _check_kills(job, kills[job])
                else:
                    yield job, answer
            waiting = again

    def _request(self, job: ClipJob) -> list[object]:
        limit = self.config.max_clip_bytes
        most = 2**50 if self.on_gpu else limit + MODEL_BYTES  # CUDA maps what it does not use
        given = None if self.stage.given is None else self.stage.given[job.clip_id]
        return [str(job.path), job.source_sha256, job.start, job.end, given, limit, most]

    def _take(self, job: ClipJob, answer: ClipAnswer) -> None:
        self.looked.clips += 1
        self.looked.total_s += answer.total_s
        if answer.changed:
            self.looked.changed[str(job.path)] = str(answer.error)
        elif answer.columns is None:
            self._add(job, self.failure_key, {}, answer.error)
        else:
            self._add(job, self.key, decoded(answer.columns, self.stage.columns), None)

    def _take_again(self, job: ClipJob, answer: Answer) -> None:
        """Take the second answer about a clip whose process died or took too long."""
        if not isinstance(answer, str):
            self._take(job, ClipAnswer(**answer))
        elif self.looked.clips or self.results.done({self.key}):
            reason = answer.replace(CRASHED, "its process crashed").replace("decoded", "computed")
            self._take(job, ClipAnswer(error=reason))
        else:
            self._give_up(job, answer)

    def _give_up(self, job: ClipJob, reason: str) -> None:
        raise UserError(
            f"stage={self.stage.name}: no clip could be computed ({reason}, {job.path}): the "
            "machine may lack memory (engine.workers=1), or "
            f"engine.timeout_s={self.config.timeout_s:g} is too short for the model"
        )

    def _add(self, job: ClipJob, key: str, columns: Mapping[str, Any], error: str | None) -> None:
        self.results.add(
            {
                "key": key,
                "clip_id": job.clip_id,
                "source_sha256": job.source_sha256,
                "error": error,
                "versions": json.dumps(dict(self.stage.versions), sort_keys=True),
                **columns,
            }
        )


def _check_kills(job: ClipJob, count: int) -> None:
    if count >= MOST_KILLS:
        raise UserError(
            f"{job.path}: its process was killed {MOST_KILLS} times: the machine may lack memory "
            "(engine.workers=1). What is done is kept: the same command goes on"
        )


def decoded(columns: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of an answer, with those of bytes as bytes."""
    return {
        name: base64.b64decode(value) if value and pa.types.is_binary(kinds[name]) else value
        for name, value in columns.items()
    }


def look_at_clips(config: CurateConfig, out: Path, stage: ModelStage, jobs: list[ClipJob]) -> Any:
    """Run a stage's model over the clips that have no result; return the results of all clips.

    Results of clips that rules drop by now are kept. The log tells what failed.

    Returns:
        a table of clip_id and the stage's columns, sorted.
    """
    engine = ModelEngine(config, stage, out)
    engine.run(jobs)
    clips = set(read_clips_table(out, ["clip_id"])["clip_id"].to_pylist())
    table = engine.results.read(engine.keys, clips)
    errors = engine.results.errors(engine.keys, clips)
    _tell(stage, engine.looked, errors, {job.clip_id: job for job in jobs}, table.num_rows)
    return table


def write_columns(
    out: Path, stage: str, table: Any, columns: Sequence[str], recorded: Mapping[str, Any]
) -> None:
    """Write the columns of a stage into the table, and beside them what they were made with.

    Args:
        table: clip_id and the columns.
        recorded: settings, hashes and versions, for stages/NAME.json.
    """
    write_text(out / STAGES / f"{stage}.json", json.dumps(recorded, indent=2) + "\n")
    write_stage(out, stage, by_clip_id(table.select(["clip_id", *columns])))


def record_of(stage: ModelStage, table: Any) -> dict[str, Any]:
    """Return what results were made with: settings, hashes of files, and all versions used."""
    versions = sorted(set(table["versions"].to_pylist())) or [json.dumps(dict(stage.versions))]
    return {**stage.settings, "versions": [json.loads(each) for each in versions]}


def _tell(
    stage: ModelStage,
    looked: Looked,
    errors: Mapping[str, str],
    jobs: Mapping[str, ClipJob],
    measured: int,
) -> None:
    each = f"{looked.total_s / looked.clips:.2f} s each" if looked.clips else ""
    rows = [
        ("clips looked at now", f"{looked.clips:,}", each),
        ("clips with a result", f"{measured:,}", ""),
        ("clips that failed", f"{len(errors):,}", "their columns are null"),
        ("changed since stage=sources", f"{len(looked.changed):,}", "run stage=sources again"),
    ]
    logger.info(Facts(f"stage {stage.name}", rows))
    for path, reason in [*looked.changed.items()][:NAMED]:
        logger.info(f"{printable(path)}: {reason}")
    for clip, reason in [*errors.items()][:NAMED]:
        where = f"{jobs[clip].path}: " if clip in jobs else f"{clip}: "
        logger.info(printable(f"{where}{reason.removeprefix(where)}"))
