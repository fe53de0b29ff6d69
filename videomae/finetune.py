"""Fine-tune pre-trained weights for action recognition, then evaluate the result.

    python -m videomae.finetune +exp=ucf101 weights=W data.train_list=L data.test_list=L data.root=D
    torchrun --nproc-per-node 8 -m videomae.finetune +exp=ucf101 run=node8 weights=W data...

weights=PATH is a run directory or its weights.safetensors, an official .pth, or a DeepSpeed or
Hugging Face directory: pre-trained, or fine-tuned (the head is replaced where the classes differ).
weights=scratch starts from random weights. What was loaded, missing and unexpected is printed, and
a partial encoder is an error. Other overrides:

    data.train_list=FILE data.test_list=FILE   "path label" on each line, relative to data.root
    data.prepared=DIR data.split=1             all of these, from python -m videomae.prepare
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

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3

from videomae.checks import (
    SCRATCH,
    check_run,
    check_videos,
    require,
    starting_weights,
    training_clips,
)
from videomae.config import ConfigError, FinetuneConfig, WhichWeights
from videomae.data.clips import class_names, read_clips
from videomae.data.dataset import TrainingClips
from videomae.data.mix import Mixing, block_of
from videomae.data.prepared import with_prepared
from videomae.evaluate import evaluate_model, hashes_of, score_model
from videomae.files import sha256, write_text
from videomae.model.classifier import VideoClassifier
from videomae.model.formats import read_weights
from videomae.model.load import as_trained, load_all, load_encoder, pick_classes, same_classes
from videomae.model.weights import FILE_NAME, Kind, WeightsInfo, save_weights
from videomae.report.console import Say
from videomae.report.figures import save_loss_curve
from videomae.report.runlog import BEST, BEST_WEIGHTS, RunLog
from videomae.run import exit_if_stopped, plan_run, train_run
from videomae.schema import command
from videomae.train.objective import Classify
from videomae.train.parallel import processes


def finetune(config: FinetuneConfig) -> None:
    """One fine-tuning run and its evaluation, as `config` says."""
    config = replace(config, data=with_prepared(config.data))
    data = config.data
    require(
        {
            "data.train_list": data.train_list,
            "data.test_list": data.test_list,
            "data.root": data.root,
            "data.classes": data.classes,
            "weights": config.weights,
        }
    )
    if config.head_map is not None and config.weights == SCRATCH:
        raise ConfigError(f"head_map={config.head_map}: weights={SCRATCH} have no head to map")
    with processes(config.run) as process:
        say = Say(process.is_main)
        checkpoint = check_run(config)
        names = class_names(data)
        clips = training_clips(data, labelled=True)
        test_clips = read_clips(str(data.test_list), data, labelled=True, key="data.test_list")
        check_videos(test_clips, data, "data.test_list")
        val_clips = []
        if config.eval_every:
            require({"data.val_list": data.val_list})
            val_clips = read_clips(str(data.val_list), data, labelled=True, key="data.val_list")
            check_videos(val_clips, data, "data.val_list")
        weights, parents = starting_weights(config, checkpoint)
        if weights is not None:
            model_config = as_trained(config.model, weights.info, data.clip)
            config = replace(config, model=model_config)
        plan = plan_run(config, clips, process, say)
        say.line(
            f"classes: {len({clip.label for clip in clips})} of {len(names)} in the training list"
        )

        torch.manual_seed(config.seed)
        model = VideoClassifier(
            config.model,
            data.clip,
            len(names),
            drop_path=config.optim.drop_path,
            head_drop=config.optim.head_drop,
        )
        if weights is not None:
            if config.head_map is not None:
                weights = pick_classes(weights, config.head_map)
                if not same_classes(weights.info, names):  # else the head would be a new one
                    raise ConfigError(
                        f"head_map={config.head_map} makes {weights.info.classes} classes of "
                        f"{weights.path}, {_first(weights.info.class_names)}; here they are "
                        f"{len(names)}, {_first(names)}: give the data.classes and "
                        "data.class_names that it makes, or no head_map"
                    )
            say.line(f"{weights.path}: {load_encoder(model, weights, names)}")
            del weights  # as large as the model
        model.to(process.device)

        dataset = TrainingClips(clips, data, config.augment, None, config.seed)
        objective = Classify(model, config.optim.label_smoothing, mixing(config))
        decay = config.optim.ema_decay
        average = None if decay is None else ModelEmaV3(model, decay)
        trained: VideoClassifier = model if average is None else average.module
        directory = Path(config.output_dir)
        info = WeightsInfo(
            kind=Kind.classifier,
            name=config.name,
            model=config.model,
            clip=data.clip,
            classes=len(names),
            class_names=names,
            drop_path=config.optim.drop_path,
            head_drop=config.optim.head_drop,
            parents=parents,
        )
        one_view = replace(data, segments=1, crops=1)

        def validate(log: RunLog, step: int, _: Callable[[], bool]) -> None:
            found = score_model(trained, val_clips, names, one_view, config.run, process, say)
            if found is not None:
                top1, top5 = (100 * found.scores.correct(k).mean() for k in (1, 5))
                log.numbers({"step": step, "val_top1": top1, "val_top5": top5})
                better = offer(directory, step, top1, trained, info)
                say.line(
                    f"step {step}: top-1 {top1:.2f} %, top-5 {top5:.2f} % on the middle of "
                    f"{len(val_clips)} videos of data.val_list{', the best so far' * better}"
                )
            process.barrier()

        outcome = train_run(
            config,
            objective,
            dataset,
            plan,
            checkpoint,
            parents,
            process,
            say,
            average=average,
            on_epoch=validate if val_clips else None,
            epochs_apart=max(1, config.eval_every),
        )
        if outcome.finished:
            if process.is_main:
                info = replace(info, step=outcome.step)
                save_weights(directory / FILE_NAME, trained.state_dict(), info)
                save_loss_curve(directory)
            process.barrier()
            file = directory / FILE_NAME
            about: dict[str, Any] = {"weights": {"chosen": "last", "step": outcome.step}}
            if config.test_weights is WhichWeights.best:
                file = directory / BEST_WEIGHTS
                load_all(trained, read_weights(file))
                about = {"weights": {"chosen": "best", **best_of(directory)}}
                about["weights"]["chosen_on"] = str(data.val_list)
            about |= hashes_of(sha256(file), data, config.model)
            evaluate_model(
                trained, test_clips, names, data, config.run, directory, process, say, about
            )
    exit_if_stopped(outcome)


def offer(
    directory: Path, step: int, top1: float, model: VideoClassifier, info: WeightsInfo
) -> bool:
    """Keep the weights of an evaluation if it is the best so far; whether it is.

    One that a run remembers from after `step` is of a future that it has left.
    """
    best = best_of(directory)
    if best and best["step"] < step and best["val_top1"] >= top1:
        return False
    save_weights(directory / BEST_WEIGHTS, model.state_dict(), replace(info, step=step))
    write_text(directory / BEST, json.dumps({"step": step, "val_top1": top1}) + "\n")
    return True


def best_of(directory: Path) -> dict[str, Any]:
    """Step and top-1 of the best evaluation of a run, if there was one."""
    path = directory / BEST
    return json.loads(path.read_text()) if path.is_file() else {}


def mixing(config: FinetuneConfig) -> Mixing | None:
    """Mixup and CutMix as a run has them, if any."""
    augment, data = config.augment, config.data
    if not (augment.mixup or augment.cutmix):
        return None
    block = block_of(augment, config.optim.global_batch)
    return Mixing(augment, block, data.clip.frame, data.repeats, config.seed)


def _first(names: Sequence[str] | None) -> str:
    return f"the first named {names[0]!r}" if names else "not named"


main = command("finetune")(finetune)

if __name__ == "__main__":
    main()
