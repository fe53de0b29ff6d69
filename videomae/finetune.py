"""Fine-tune pre-trained weights for action recognition, then evaluate the result.

    python -m videomae.finetune +exp=ucf101 weights=W data.train_list=L data.test_list=L data.root=D
    python -m videomae.finetune data.videos=FOLDER weights=W
    torchrun --nproc-per-node 8 -m videomae.finetune +exp=ucf101 run=node8 weights=W data...

weights=PATH is a run directory or its weights.safetensors, an official .pth, or a DeepSpeed or
Hugging Face directory: pre-trained, or fine-tuned (the head is replaced where the classes differ).
weights=scratch starts from random weights. What was loaded, missing and unexpected is printed, and
a partial encoder is an error. Other overrides:

    data.videos=FOLDER                         a folder per class: lists and settings are made of it
    data.train_list=FILE data.test_list=FILE   "path label" on each line, relative to data.root
    data.prepared=DIR data.split=1             all of these, from python -m videomae.prepare
    data.split=all                             every split in turn, and the mean of their results
    data.classes=N data.class_names=FILE       how many classes; line i names class i
    data.segments=5 data.crops=3               views of a test video
    eval_every=1 data.val_list=FILE            evaluate after each epoch, keep the best weights
    test_weights=best                          take those to the test list in the end
    augment=plain                              crops alone, without RandAugment, mixup, CutMix ...
    optim.ema_decay=0.9999                     a running mean of the weights
    head_map=FILE                              JSON list: row of the weights' head for each class
    output_dir= resume= overwrite= max_steps= seed= model= run=   as in python -m videomae.pretrain

The run directory then holds results.json, predictions.jsonl and figures/confusion.png.
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from videomae.config import FinetuneConfig
from videomae.run.command import command


def finetune(config: FinetuneConfig) -> None:
    """Fine-tune and evaluate as `config` says, on one split or on each."""
    from videomae.run.checks import require
    from videomae.run.garbage import collection
    from videomae.run.given import given

    with collection(on=False):  # torch is imported
        from videomae.evaluation.splits import config_of_splits, write_mean
        from videomae.lists.prepared import data_name
        from videomae.run.run import open_run, tell_directory

    began = datetime.now().astimezone()
    told = given(config)
    splits = config_of_splits(config, told)
    for split in splits:
        if split.data.videos is None:
            require(split, *split.required())
    with open_run(config.run, config.output_dir) as run:
        tell_directory(config, told)  # before the imports that take long
        from videomae.train.finetuning import Finetuning
        from videomae.train.outcome import exit_if_stopped
        from videomae.train.own_videos import with_own_videos
        from videomae.train.start import tell_classes
        from videomae.train.trainer import Trainer

        tell_classes(config.data, splits[0].data)
        splits = [with_own_videos(run, split, told) for split in splits]
        used = []
        for split in splits:
            alone = replace(run, directory=Path(split.output_dir))
            chosen = None if told.itself("data.classes") else told.data
            stage = Finetuning(alone, split, data_name(split.data, chosen))
            used.append(stage.config)
            outcome = Trainer(stage.run, stage.config, stage).train()
            if not outcome.finished:
                break
        else:
            write_mean(run, config, used, began)
    exit_if_stopped(outcome)


main = command("finetune")(finetune)

if __name__ == "__main__":
    main()
