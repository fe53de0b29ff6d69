"""Engine of stage measure on a Ray cluster, for engine.name=ray.

A task measures a few videos one after another, in a process of its own as the engine of one machine
does: a decoder that crashes ends that process and not the Ray worker. A task keeps nothing; its
results are the files below out/measured, which every node must see. Plain tasks are used, and not
ray.data: a dead worker, node or network is seen as an error of its task, and what is lost is known.
"""

import logging
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from videomae.config import ConfigError, UserError
from videomae.curate import engine
from videomae.curate.engine import Attempt, Engine, Lost, Totals, VideoJob, told
from videomae.curate.measuring import UNREADABLE
from videomae.curate.ray_cluster import connected, live_nodes
from videomae.curate.ray_task import (
    MEASURING,
    MOST_S,
    NETWORK,
    BatchAnswers,
    BatchOrder,
    measure_batch,
    versions,
)
from videomae.curate.shards import RAY, VERSION
from videomae.run.files import write_text
from videomae.run.worker_pool import Watch

logger = logging.getLogger(__name__)

MOST_VIDEOS = 16
"""Largest number of videos of a task."""
POLL_S = 1.0
"""Seconds between two looks at the tasks, at most."""
GRACE_S = 60.0
"""Seconds that a task may take beyond its limits before it counts as lost."""
TOKEN_S = 30.0
"""Seconds that a node has to see the file by which it knows that it shares the folder."""
SEEN_S = 90.0
"""Seconds after which a file that another node has written must be seen here; NFS takes a while."""
SAY_EVERY_S = 60.0
"""Seconds between two messages about what the cluster lacks."""
NO_CPU_S = 600.0
"""Seconds without any CPU in the cluster after which it is given up."""


@dataclass
class RunningBatch:
    """A task that was given to Ray."""

    jobs: Sequence[VideoJob]
    mark: Path
    """File that the task writes its node's id to when it begins."""
    began: float | None = None
    """Monotonic time at which the mark was seen, in seconds; None: the task waits for a CPU."""
    node: str = ""
    """Id of the node that the task runs on; empty: it waits."""


class RayEngine(Engine):
    """Measures videos in the tasks of a Ray cluster, or of a Ray that it starts on this machine."""

    def measure(self, jobs: Sequence[VideoJob], done: int) -> Totals:
        """Measure videos, and put their results into the shards.

        Args:
            done: number of videos that were measured before, for the progress.

        Raises:
            ConfigError: there is no such cluster, or a node cannot measure videos for this command.
            OSError: the results cannot be written.
            UserError: something ends the process of one video again and again, or the cluster has
                no CPU left.
        """
        if not jobs:
            return self.totals
        self.singles: set[VideoJob] = set()
        self.numbers = iter(range(1 << 62))
        self.folder = Path(os.path.abspath(self.shards.folder)) / RAY
        self.token = secrets.token_hex(16)
        network = NETWORK if "network" in self.settings else ()
        self.versions = versions(VERSION, (*MEASURING, *network))
        write_text(self.folder / "token", self.token)
        try:
            with connected(self.config):
                self.totals.began = time.monotonic()
                self.task = ray.remote(max_retries=0, num_cpus=1)(measure_batch)
                return super().measure(jobs, done)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def attempt(self, jobs: Sequence[VideoJob], *, alone: bool) -> Attempt:
        waiting, running = deque(jobs), dict[Any, RunningBatch]()
        cluster = ClusterWatch()
        try:
            while waiting or running:
                nodes = live_nodes()
                # more than have a CPU, so that a cluster that grows on demand does
                most = 1 if alone else self.config.workers or max(1, 2 * sum(nodes.values()))
                while waiting and len(running) < most:
                    batch = self._batch(waiting, 1 if alone else most)
                    running[self.task.remote(self._order(batch))] = batch
                ready, _ = ray.wait(list(running), timeout=POLL_S)
                for reference in ready:
                    yield from self._collect(reference, running.pop(reference), waiting)
                forsaken = cluster.look(running.values(), nodes)
                for reference, reason in self._dead(running, nodes, cluster.stopped_s).items():
                    ray.cancel(reference, force=True)
                    yield from self._lose(running.pop(reference), reason)
                for reference in [each for each in running if forsaken and not running[each].node]:
                    ray.cancel(reference, force=True)
                    waiting.extendleft(reversed(running.pop(reference).jobs))
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _batch(self, waiting: deque[VideoJob], most: int) -> RunningBatch:
        """Take videos off the queue: fewer towards its end, so that the tasks end together, and one
        that was lost with others alone."""
        size = max(1, min(MOST_VIDEOS, len(waiting) // (2 * most)))
        jobs = [waiting.popleft()]
        while len(jobs) < size and not self.singles & {jobs[0], waiting[0]}:
            jobs.append(waiting.popleft())
        return RunningBatch(jobs, self.folder / f"{next(self.numbers)}")

    def _order(self, batch: RunningBatch) -> BatchOrder:
        return BatchOrder(
            requests=[self.request(job) for job in batch.jobs],
            timeout_s=self.config.timeout_s,
            program=engine.PROGRAM,
            mark=str(batch.mark),
            token=self.token,
            token_s=TOKEN_S,
            versions=self.versions,
        )

    def _collect(self, reference: Any, batch: RunningBatch, waiting: deque[VideoJob]) -> Attempt:
        """Yield what became of the videos of a task that has ended; those that it has not come to
        go back to the queue."""
        try:
            found: BatchAnswers = ray.get(reference)
        except RayTaskError as error:  # our own part of it, not the death of its process
            raise UserError(
                f"a Ray worker cannot measure: {error}. What is done is kept: the same command "
                "goes on"
            ) from error
        except RayError as error:
            yield from self._lose(batch, str(error).partition("\n")[0])
            return
        finally:
            batch.mark.unlink(missing_ok=True)
        if found.refused is not None:
            raise ConfigError(f"the Ray node {found.node} {found.refused}")
        waiting.extendleft(reversed(batch.jobs[len(found.answers) :]))
        for job, answer in zip(batch.jobs, found.answers, strict=False):
            if isinstance(answer, dict):
                self._check_seen(job, answer, found.node)
            yield job, told(answer)

    def _lose(self, batch: RunningBatch, reason: str) -> Attempt:
        """Yield the videos of a task that was lost; from now on each has a task of its own."""
        names = f"{batch.jobs[0].path}" + (" and others" if len(batch.jobs) > 1 else "")
        logger.warning(f"a Ray task was lost, and is done again ({names}): {reason}")
        counts = len(batch.jobs) == 1
        self.singles.update(batch.jobs)
        for job in batch.jobs:
            yield job, Lost(reason, counts=counts)

    def _check_seen(self, job: VideoJob, answer: dict[str, Any], node: str) -> None:
        """Check that a node and this one see the same files.

        Raises:
            ConfigError: they do not.
        """
        if str(answer["error"]).startswith(UNREADABLE) and job.path.is_file():
            raise ConfigError(f"{job.path}: the Ray node {node} cannot read it: {answer['error']}")
        file, end = self.shards.file(job.key), time.monotonic() + SEEN_S
        while answer["clips"] and not file.exists():
            if time.monotonic() > end:
                raise ConfigError(
                    f"{file}: the Ray node {node} has written it, but it is not seen here: out= "
                    "must lie on a file system that all nodes share"
                )
            time.sleep(POLL_S)
            os.listdir(file.parent)  # NFS looks anew

    def _dead(
        self, running: dict[Any, RunningBatch], nodes: Container[str], stopped_s: float
    ) -> dict[Any, str]:
        """Return the tasks that will not answer, each with the reason.

        Ray does not always end a task whose node has died.

        Args:
            nodes: ids of the nodes that are alive.
            stopped_s: seconds in which this process was stopped, which do not count.
        """
        now, found = time.monotonic(), {}
        for reference, batch in running.items():
            if batch.began is None and batch.mark.exists():
                batch.began, batch.node = now, batch.mark.read_text(encoding="utf-8")
            elif batch.began is not None:
                batch.began += stopped_s
                if batch.node not in nodes:
                    found[reference] = f"its node {batch.node} is dead"
                elif now - batch.began > MOST_S + self.config.timeout_s + GRACE_S:
                    found[reference] = f"its node {batch.node} did not answer in time"
        return found


class ClusterWatch:
    """Says when the cluster has nothing free, and ends the wait for one that has no CPU at all."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.stopped_s = 0.0
        """Seconds before the last look in which this process was stopped."""
        self.had_cpu = self.worked = self.said = time.monotonic()
        self.nodes: set[str] = set()

    def look(self, running: Collection[RunningBatch], nodes: dict[str, int]) -> bool:
        """Take note of the tasks and of the nodes that are alive now, with their CPUs.

        Returns:
            whether tasks that have not begun may never begin: Ray may have given them to a node
            that has died meanwhile.

        Raises:
            UserError: the cluster has had no CPU for NO_CPU_S.
        """
        self.stopped_s = self.watch.stopped_s()
        now = time.monotonic()
        forsaken, self.nodes = not self.nodes <= nodes.keys(), set(nodes)
        has_cpu = any(nodes.values())
        self.had_cpu = now if has_cpu else self.had_cpu + self.stopped_s
        waits = [batch.began is None for batch in running]
        self.worked = self.worked if waits and all(waits) else now
        if now - self.had_cpu > NO_CPU_S:
            raise UserError(
                f"the Ray cluster has had no node with a CPU for {NO_CPU_S:.0f} s. What is done is "
                "kept: the same command goes on"
            )
        if now - max(self.worked, self.said) > SAY_EVERY_S:
            self.said = now
            lacks = "has no free CPU" if has_cpu else "has no node with a CPU"
            logger.warning(f"{len(waits)} tasks wait: the Ray cluster {lacks}")
            forsaken |= ray.available_resources().get("CPU", 0) >= 1
        return forsaken
