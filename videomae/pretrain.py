"""Pre-train a video transformer on unlabelled clips: VideoMAE V2, tube and dual masking.

    python -m videomae.pretrain +exp=tiktok_vitg data.train_list=LIST data.root=VIDEOS
    torchrun --nproc-per-node 8 -m videomae.pretrain +exp=tiktok_vitb run=node8 data...

An exp (+exp=NAME, see configs/exp) is a whole run: model, data, masking, optimiser. Overrides that
every training command takes:

    data.train_list=FILE   one clip a line, relative to data.root (formats: data_lists/README.md)
    data.root=DIR          where the videos are
    data.prepared=DIR      both, from python -m videomae.prepare; data.split=1 where it has splits
    data.sources.X.KEY=..  several lists at once, each with its train_list, root, stride (below)
    output_dir=DIR         where the run writes (outputs/NAME)
    resume=auto            go on where the run stopped; never: refuse to mix runs; or a checkpoint
    overwrite=true         replace the run that output_dir holds
    weights=FILE           start from these weights
    max_steps=N            stop after step N, with a checkpoint
    model=vit_base         another size (configs/model)      run=gpu   other hardware (configs/run)
    seed=N                 everything random follows from it
    probe.every_epochs=N   k-NN top-1 on probe.train_list, .test_list, .root, .classes (below)

Several lists (+exp=hybrid_vitb, or your own, by any name) are trained on as one; nothing weighs
them but their lengths. A source needs data.sources.NAME.train_list=FILE and .root=DIR, may set
.stride, .list_format, .frame_template and .first_frame, and is left out by '~data.sources.NAME'.

The loss alone does not tell whether the encoder learns anything. With probe.every_epochs=N, every
N epochs the videos of probe.test_list are classified by their nearest neighbours among those of
probe.train_list, both labelled lists relative to probe.root, by the encoder as it is: knn_top1 in
metrics.jsonl and TensorBoard. The training itself is the same, bit for bit, with and without it.

Ctrl-C, SIGTERM or SIGUSR1: the step is finished and checkpointed, and a line says how to go on.
--cfg job --resolve prints the whole config and exits.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from videomae.config import Precision, PretrainConfig, token_grid
from videomae.data.checks import check_videos, lists_of, training_clips, warn_of_shared
from videomae.data.dataset import TrainingClips
from videomae.data.loader import Batch, single_examples
from videomae.data.mask import Masking
from videomae.evaluation.probing import EpochProbe, probe_data
from videomae.lists.clips import ClipList, read_clips
from videomae.lists.prepared import with_prepared
from videomae.model.flops import pretraining_flops
from videomae.model.mae import VideoMAE
from videomae.model.pixels import normalise
from videomae.pictures.figures import (
    filmstrip,
    reconstruction_rows,
    save_loss_curve,
    save_reconstructions,
)
from videomae.run.checks import require
from videomae.run.console import Say, note
from videomae.run.directory import WEIGHTS
from videomae.run.log import RunLog
from videomae.run.parallel import Processes, processes
from videomae.run.record import made
from videomae.run.schema import command
from videomae.train.objective import Reconstruct
from videomae.train.planning import choices_of, plan_run, settle_batch
from videomae.train.runs import exit_if_stopped, train_run
from videomae.train.sharding import DistributedModel
from videomae.train.start import check_run, starting_weights
from videomae.train.tuning import Part, tune
from videomae.weights.load import as_trained, load_all
from videomae.weights.weights import Kind, WeightsInfo, save_weights

SHOWN = 4
"""Clips in a picture of reconstructions."""


def pretrain(config: PretrainConfig) -> None:
    """One pre-training run, as `config` says."""
    config = replace(config, data=with_prepared(config.data))
    require(lists_of(config.data))
    with processes(config.run) as process:
        say = Say(process.is_main)
        checkpoint = check_run(config)
        clips = training_clips(config.data, labelled=False)
        weights, parents = starting_weights(config, checkpoint)
        if weights is not None:
            model_config = as_trained(config.model, weights.info, config.data.clip)
            config = replace(config, model=model_config)
        probe = _epoch_probe(config, process, say)
        plan = plan_run(config, clips, process, say)

        torch.manual_seed(config.seed)
        model = VideoMAE(config.model, config.data.clip)
        if weights is not None:
            say.line(f"{weights.path}: {load_all(model, weights)}")
            del weights  # as large as the model
        distributed = DistributedModel(model.to(process.device), config.run, process)
        say.line(f"sharding: {distributed}")

        masking = Masking(config.mask, token_grid(config.model, config.data.clip))
        dataset = TrainingClips(clips, config.data, config.augment, masking, config.seed)
        visible, decoded = masking.num_tokens()
        objective = Reconstruct(model)
        config, plan = settle_batch(config, plan, objective, dataset, checkpoint, process, say)
        parts = {
            "encoder": Part(model.encoder.blocks, visible),
            "decoder": Part(model.decoder.blocks, visible + decoded),
        }
        views, choices = plan.micro_batch * config.data.repeats, choices_of(checkpoint, process)
        for line in tune(parts, views, config.run, process, choices):
            say.line(line)
        info = WeightsInfo(
            kind=Kind.pretrain,
            name=config.name,
            model=config.model,
            clip=config.data.clip,
            mask=config.mask,
            parents=parents,
        )

        def show(log: RunLog, step: int, batch: Batch) -> None:
            assert batch.mask is not None
            one_of_each = slice(None, SHOWN * config.data.repeats, config.data.repeats)
            clip = normalise(batch.clip[one_of_each].to(process.device))
            mask, precision = batch.mask[one_of_each], config.run.precision
            rows = reconstruction_rows(model, clip, mask, precision)  # by all processes
            log.image(
                "reconstruction",
                filmstrip([row[i] for i in range(len(clip)) for row in rows]),
                step,
            )

        def measure(log: RunLog, step: int, stop: Callable[[], bool]) -> None:
            assert probe is not None
            top1 = probe(distributed.whole(), stop)
            if top1 is not None:
                epoch = step / plan.steps_per_epoch
                log.numbers({"step": step, "epoch": epoch, "knn_top1": top1})
                say.line(f"step {step}: k-NN top-1 {top1:.2f} % on probe.test_list")

        outcome = train_run(
            config,
            objective,
            distributed,
            dataset,
            plan,
            checkpoint,
            info,
            process,
            choices,
            say,
            on_batch=show,
            on_epoch=measure if probe else None,
            epochs_apart=max(1, config.probe.every_epochs),
            flops=pretraining_flops(config.model, visible, decoded),
        )
        trained = distributed.whole()
        if process.is_main and outcome.finished:
            directory = Path(config.output_dir)
            file = made(directory, WEIGHTS)
            save_weights(file, trained.state_dict(), replace(info, step=outcome.step))
            save_loss_curve(directory)
            picture = made(directory, "figures/reconstruction.png")
            draw_reconstructions(trained, dataset, picture, config.run.precision)
            say.line(f"weights: {file}   pictures: {directory / 'figures'}")
        process.barrier()
    exit_if_stopped(outcome)


def _epoch_probe(config: PretrainConfig, process: Processes, say: Say) -> EpochProbe | None:
    """The k-NN probe that config.probe asks for, if any.

    Raises:
        ConfigError: it lacks a list, or its videos are not there.
        ClipListError: a list cannot be read.
    """
    probe = config.probe
    if probe.every_epochs == 0:
        return None
    needed = ("train_list", "test_list", "root", "classes")
    require({f"probe.{name}": getattr(probe, name) for name in needed})
    data = probe_data(probe, config.data)

    def clips_of(name: str) -> ClipList:
        key = f"probe.{name}"
        clips = read_clips(str(getattr(probe, name)), data, labelled=True, key=key)
        check_videos(clips, data, key)
        return clips

    train, test = clips_of("train_list"), clips_of("test_list")
    warn_of_shared(test, "probe.test_list", {"probe.train_list": train}, say)
    return EpochProbe(probe, train, test, data, config.run, process, say)


def draw_reconstructions(
    model: VideoMAE, dataset: TrainingClips, path: Path, precision: Precision
) -> None:
    """A few clips, evenly spaced over the list, through the trained model."""
    places = range(0, len(dataset.clips), max(1, len(dataset.clips) // SHOWN))
    batches = [batch for batch in single_examples(dataset, places[:SHOWN], note) if not batch.bad]
    if not batches:
        return
    device = next(model.parameters()).device
    clip = normalise(torch.stack([batch.clip[0] for batch in batches]).to(device))
    masks = torch.stack([batch.mask[0] for batch in batches if batch.mask is not None])
    rows = reconstruction_rows(model, clip, masks, precision)
    save_reconstructions(path, rows, f"{model.config.name}: clips of the training list")


main = command("pretrain")(pretrain)

if __name__ == "__main__":
    main()
