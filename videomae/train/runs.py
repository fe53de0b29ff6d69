"""A training run: what it is, its directory, and how it is gone on with."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import nn

from videomae.config import FinetuneConfig, TrainConfig
from videomae.data.dataset import Item, TrainingClips
from videomae.data.loader import Batch, TrainingOrder, training_loader
from videomae.lists.clips import Clip, ClipList
from videomae.model.flops import matmul_peak
from videomae.run.arithmetic import uses_bf16
from videomae.run.bad_files import TRAIN, BadFile
from videomae.run.console import Say, note
from videomae.run.directory import BAD_FILES, CHOICES, METRICS, PROFILE, SPIKES, WANDB, alone
from videomae.run.environment import describe_run
from videomae.run.files import sha256
from videomae.run.log import RunLog
from videomae.run.overwrite import clear_run
from videomae.run.parallel import UNDER_SUBMITIT, Processes
from videomae.run.record import made
from videomae.run.sidefiles import is_bad_file, read_rows
from videomae.run.signals import REQUEUES
from videomae.train.checkpoint import Checkpoints
from videomae.train.choices import Choices
from videomae.train.groups import adamw
from videomae.train.judge import Judge
from videomae.train.loop import Outcome, Training
from videomae.train.meter import Meter
from videomae.train.schedule import Plan
from videomae.train.sharding import DistributedModel
from videomae.train.start import is_own
from videomae.train.trial import check_memory
from videomae.video.opening import pack_at
from videomae.video.packs import MANIFEST
from videomae.weights.weights import WeightsInfo

FREE_DATA = (
    "prepared",
    "split",
    "train_list",
    "val_list",
    "test_list",
    "root",
    "num_train",
    "class_names",
    "decoder",
    "timeout_s",
    "max_clip_bytes",
    "max_bad_fraction",
    "segments",
    "crops",
)
"""Settings of `data` that do not change what is learned; the list itself is compared by hash."""
REQUEUED_IN_S = 60
"""What Slurm may take to end a job that it was told to put back into the queue."""


def train_run(
    config: TrainConfig,
    objective: nn.Module,
    distributed: DistributedModel[Any],
    dataset: TrainingClips,
    plan: Plan,
    checkpoint: Path | None,
    info: WeightsInfo,
    processes: Processes,
    choices: Choices,
    say: Say,
    *,
    on_start: Callable[[], None] | None = None,
    on_batch: Callable[[RunLog, int, Batch], None] | None = None,
    on_epoch: Callable[[RunLog, int, Callable[[], bool]], None] | None = None,
    epochs_apart: int = 1,
    flops: float | None = None,
) -> Outcome:
    """Train in the run directory until the end, config.max_steps or a signal.

    Args:
        distributed: the objective's model.
        checkpoint: to go on from.
        info: what the weights are that are trained.
        choices: of how it is computed; they are kept in the run directory.
        on_start: called by the main process when the run directory is its own, before step 1.
        on_batch: called by all processes with (log, step, micro-batch) every run.image_every steps.
        on_epoch: called by all processes with (log, step, stop), every `epochs_apart` epochs; see
            Training.
        flops: of one view's forward and backward pass.

    Raises:
        CheckpointError: `checkpoint` is damaged or of another run, or none can be written.
        ConfigError: a step does not fit into the device's memory.
        TooManyBadVideos, NonFiniteError: see videomae.train.judge.
    """
    directory = Path(config.output_dir)
    hashes = {
        f"{section}.train_list": sha256(Path(str(part.train_list)))
        for section, part in config.data.parts().items()
    }
    for section, part in config.data.parts().items():  # a pack has pixels and starts of its own
        if pack := pack_at(Path(str(part.root))):
            hashes[f"{section}.root"] = sha256(pack.root / MANIFEST)
    if info.parents:
        hashes["weights"] = info.parents[-1].sha256
    optimizer = adamw(distributed.model, config.model.depth, config.optim)
    identity = run_identity(config, hashes)
    if isinstance(config, FinetuneConfig):
        hashes["data.test_list"] = sha256(Path(str(config.data.test_list)))
    keep = config.run.keep_checkpoints
    batch = config.optim.global_batch
    background = config.run.background_checkpoints
    store = Checkpoints(
        directory / "checkpoints",
        identity,
        keep,
        batch,
        processes,
        info,
        background=processes.device.type == "cuda" if background is None else background,
    )
    start = store.restore(checkpoint, distributed, optimizer) if checkpoint else 0
    check_memory(objective, distributed, dataset, plan, config.run, processes)
    own = is_own(checkpoint, directory)
    # One process looks, for all must agree; and all have looked before anything changes.
    workers = processes.num_workers(config.run.workers)
    known = _known_bad(config, dataset, start, workers) if own and processes.is_main else {}
    bad = processes.from_main(known)
    processes.barrier()
    if checkpoint:
        say.line(f"going on from {checkpoint}: step {start} of {plan.total_steps}")
    last = max(start, min(plan.total_steps, config.max_steps or plan.total_steps))

    with alone(directory, say), say.bar(config.name, total=last, done=start) as bar:
        if processes.is_main:
            if own:
                store.remove_after(start)
            else:
                clear_run(directory, keep_links=not config.overwrite)
            describe_run(config, directory, processes, hashes)
            choices.write(made(directory, CHOICES))
            for name in _logged(config):
                made(directory, name)
            if on_start and start == 0:
                on_start()
        order = TrainingOrder(len(dataset.clips), batch, config.seed)
        wandb = (config.run.wandb and (config.run.wandb, config.name)) or None
        profiled = config.run.profile and processes.is_main
        log = RunLog(directory, say, bar, step=start, bad=list(bad.values()), wandb=wandb)
        judge = Judge(
            dataset.clips,
            order,
            plan,
            config.run,
            processes,
            log,
            bad,
            max_bad_fraction=config.data.max_bad_fraction,
            start=start,
            last=last,
        )
        peak = _peak(config, processes)
        meter = Meter(plan, config.run, processes, log, last=last, flops=flops, peak=peak)
        try:
            outcome = Training(
                objective,
                distributed,
                optimizer,
                dataset,
                order,
                plan,
                optim=config.optim,
                run=config.run,
                processes=processes,
                checkpoints=store,
                judge=judge,
                meter=meter,
                log=log,
                seed=config.seed,
                on_batch=on_batch and (lambda step, batch: on_batch(log, step, batch)),
                on_epoch=on_epoch and (lambda step, stop: on_epoch(log, step, stop)),
                epochs_apart=epochs_apart,
                profile_to=directory / PROFILE if profiled else None,
            ).train(start, last)
        finally:
            log.close()
    if outcome.signal is not None and not outcome.finished:
        say.line(
            f"stopped by {signal.Signals(outcome.signal).name} after step {outcome.step}; its "
            f"checkpoint is complete. Go on with: {resume_command(processes)}"
        )
    return outcome


def _logged(config: TrainConfig) -> list[str]:
    """What a run's log and profile are called in its directory."""
    names = [METRICS, SPIKES, BAD_FILES, "tensorboard"]
    names += [WANDB] if config.run.wandb else []
    return names + [PROFILE] * config.run.profile


def _peak(config: TrainConfig, processes: Processes) -> float | None:
    """What the device does in a second, measured where that is a matter of a moment."""
    device = processes.device
    if device.type != "cuda":
        return None
    bf16 = uses_bf16(device, config.run.precision)
    return matmul_peak(device, torch.bfloat16 if bf16 else torch.float32)


def _known_bad(
    config: TrainConfig, dataset: TrainingClips, start: int, workers: int
) -> dict[int, BadFile]:
    """The unreadable files that a run has met by the end of step `start`, by index.

    Those that have been mended since are forgotten.
    """
    clips = dataset.clips
    tried = TrainingOrder(len(clips), config.optim.global_batch, config.seed).tried(start)
    known = read_bad_files(Path(config.output_dir), clips)
    again = [[Item(0, index)] for index in known if tried[index]]
    workers = min(len(again), workers)
    batches = training_loader(dataset, again, size=1, workers=workers, pin=False, note=note)
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


def run_identity(config: TrainConfig, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What must not change when a run goes on: dotted setting -> value.

    Args:
        hashes: of the files that must not change either, by setting.
    """
    sections = {key: value for key, value in asdict(config).items() if isinstance(value, dict)}
    for section in ("run", "probe"):  # they decide nothing that is learned
        sections.pop(section, None)
    for settings in (sections["data"], *sections["data"]["sources"].values()):
        for key in FREE_DATA:
            settings.pop(key, None)
    flat: dict[str, Any] = {f"sha256({key})": value for key, value in hashes.items()}
    flat["seed"] = config.seed
    if config.data.sources:
        flat["data.sources"] = list(config.data.sources)  # their order is that of the clips
    while sections:
        section, values = sections.popitem()
        for key, value in values.items():
            if isinstance(value, dict):
                sections[f"{section}.{key}"] = value
            else:
                flat[f"{section}.{key}"] = value.name if isinstance(value, Enum) else value
    return dict(sorted(flat.items()))


def resume_command(processes: Processes) -> str:
    """What the user types to go on."""
    if UNDER_SUBMITIT in os.environ:
        return "the same sweep, with resume=auto, unless the job goes back into the queue by itself"
    if processes.world > processes.local_world:
        return "the same torchrun command on every machine, with resume=auto"
    arguments = [a for a in sys.argv[1:] if not a.startswith(("resume=", "overwrite="))]
    if processes.world > 1:
        launcher = f"torchrun --standalone --nproc-per-node {processes.local_world} -m"
    else:
        launcher = "python -m"
    module = f"videomae.{Path(sys.argv[0]).stem}"
    return shlex.join([*launcher.split(), module, *arguments, "resume=auto"])


def exit_if_stopped(outcome: Outcome) -> None:
    """End the process as its signal would have, so that launchers see what happened."""
    if outcome.signal is None or outcome.finished:
        return
    if outcome.signal == REQUEUES:
        signal.raise_signal(REQUEUES)  # of several processes, the first one ends all of the job
        time.sleep(REQUEUED_IN_S)
    sys.exit(128 + outcome.signal)
