"""Pre-train a video transformer on unlabelled clips: VideoMAE V2, tube and dual masking.

    python -m videomae.pretrain data.videos=FOLDER
    python -m videomae.pretrain +exp=tiktok_vitg data.train_list=LIST data.root=VIDEOS
    torchrun --nproc-per-node 8 -m videomae.pretrain +exp=tiktok_vitb run=node8 data...

An exp (+exp=NAME, see configs/exp) is a whole run: model, data, masking, optimiser. Overrides that
every training command takes:

    data.videos=FOLDER     your own videos: lists and settings are made of them (docs/own_videos.md)
    data.train_list=FILE   one clip a line, relative to data.root (formats: data_lists/README.md)
    data.root=DIR          where the videos are
    data.prepared=DIR      both, from python -m videomae.prepare; data.split=1 where it has splits
    data.sources.X.KEY=..  several lists at once, each with its train_list, root, stride (below)
    output_dir=DIR         where the run writes (outputs/NAME); NAME is the exp's, whatever model=
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

from dataclasses import replace

from videomae.config import PretrainConfig
from videomae.run.command import command


def pretrain(config: PretrainConfig) -> None:
    """Pre-train one model, as `config` says."""
    from videomae.lists.prepared import with_prepared
    from videomae.run.checks import require
    from videomae.run.garbage import collection
    from videomae.run.given import given

    told = given(config)
    config = replace(config, data=with_prepared(config.data, told))
    if config.data.videos is None:
        require(config, *config.required())
    with collection(on=False):  # torch is imported
        from videomae.run.run import open_run, tell_directory
    with open_run(config.run, config.output_dir) as run:
        tell_directory(config, told)  # before the imports that take long
        from videomae.train.outcome import exit_if_stopped
        from videomae.train.own_videos import with_own_videos
        from videomae.train.pretraining import Pretraining
        from videomae.train.trainer import Trainer

        config = with_own_videos(run, config, told)
        stage = Pretraining(run, config)
        outcome = Trainer(run, stage.config, stage).train()
    exit_if_stopped(outcome)


main = command("pretrain")(pretrain)

if __name__ == "__main__":
    main()
