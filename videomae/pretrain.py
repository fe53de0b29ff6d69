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

Several lists (+exp=hybrid_vitb, or your own, by any name) are trained on as one; nothing weighs
them but their lengths. A source needs data.sources.NAME.train_list=FILE and .root=DIR, may set
.stride, .list_format, .frame_template and .first_frame, and is left out by '~data.sources.NAME'.

Ctrl-C or SIGTERM: the step is finished and checkpointed, and a line says how to go on.
--cfg job --resolve prints the whole config and exits.
"""

from dataclasses import replace
from pathlib import Path

import torch

from videomae.checks import check_run, lists_of, require, starting_weights, training_clips
from videomae.config import PretrainConfig, token_grid
from videomae.data.dataset import Item, TrainingClips
from videomae.data.loader import Batch
from videomae.data.mask import Masking
from videomae.data.prepared import with_prepared
from videomae.model.load import as_trained, load_all
from videomae.model.mae import VideoMAE
from videomae.model.weights import FILE_NAME, Kind, WeightsInfo, save_weights
from videomae.pixels import normalise
from videomae.report.console import Say
from videomae.report.figures import (
    filmstrip,
    reconstruction_rows,
    save_loss_curve,
    save_reconstructions,
)
from videomae.report.runlog import RunLog
from videomae.run import exit_if_stopped, plan_run, train_run
from videomae.schema import command
from videomae.train.objective import Reconstruct
from videomae.train.parallel import processes

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
        plan = plan_run(config, clips, process, say)

        torch.manual_seed(config.seed)
        model = VideoMAE(config.model, config.data.clip)
        if weights is not None:
            say.line(f"{weights.path}: {load_all(model, weights)}")
            del weights  # as large as the model
        model.to(process.device)

        masking = Masking(config.mask, token_grid(config.model, config.data.clip))
        dataset = TrainingClips(clips, config.data, config.augment, masking, config.seed)
        objective = Reconstruct(model)

        def show(log: RunLog, step: int, batch: Batch) -> None:
            assert batch.mask is not None
            one_of_each = slice(None, SHOWN * config.data.repeats, config.data.repeats)
            clip = normalise(batch.clip[one_of_each].to(process.device))
            rows = reconstruction_rows(model, clip, batch.mask[one_of_each])
            log.image(
                "reconstruction",
                filmstrip([row[i] for i in range(len(clip)) for row in rows]),
                step,
            )

        outcome = train_run(
            config, objective, dataset, plan, checkpoint, parents, process, say, on_batch=show
        )
        if process.is_main and outcome.finished:
            directory = Path(config.output_dir)
            info = WeightsInfo(
                kind=Kind.pretrain,
                name=config.name,
                step=outcome.step,
                model=config.model,
                clip=config.data.clip,
                mask=config.mask,
                parents=parents,
            )
            save_weights(directory / FILE_NAME, model.state_dict(), info)
            save_loss_curve(directory)
            draw_reconstructions(model, dataset, directory / "figures" / "reconstruction.png")
            say.line(f"weights: {directory / FILE_NAME}   pictures: {directory / 'figures'}")
        process.barrier()
    exit_if_stopped(outcome)


def draw_reconstructions(model: VideoMAE, dataset: TrainingClips, path: Path) -> None:
    """A few clips, evenly spaced over the list, through the trained model."""
    places = range(0, len(dataset.clips), max(1, len(dataset.clips) // SHOWN))
    examples = [dataset[Item(0, index)] for index in places[:SHOWN]]
    examples = [example for example in examples if example.bad is None]
    if not examples:
        return
    device = next(model.parameters()).device
    clip = normalise(torch.stack([example.clip[0] for example in examples]).to(device))
    masks = torch.stack([example.mask[0] for example in examples if example.mask is not None])
    rows = reconstruction_rows(model, clip, masks)
    save_reconstructions(path, rows, f"{model.config.name}: clips of the training list")


main = command("pretrain")(pretrain)

if __name__ == "__main__":
    main()
