"""Compare encoders in minutes: k-NN, linear and attentive probes on their frozen features.

    python -m videomae.probe weights=RUN_OR_FILE data.classes=N \\
        data.train_list=LIST data.test_list=LIST data.root=VIDEOS output_dir=DIR

weights= is of any released kind: of a pre-training, a classifier, an encoder alone; or scratch, a
random encoder of model= for the baseline. Frames, size and width are those of the weights; the
stride, the sampling and the classes are those of data=. Of each video the encoder sees the middle
clip, its centre cut out, once: the features are kept in output_dir/features, and a second run, or
one that goes on after a kill, reads what is there.

    probe.kinds=[knn,linear,attentive]   which ones. attentive keeps every token on disk
    probe.views=N                        views of each training video
    probe.k=20 probe.temperature=0.07    knn, as in DINO
    probe.lrs=[1e-4,...]                 linear, attentive: the rates tried, see below
    probe.min_steps=1000                 linear, attentive: on short lists, more epochs
    overwrite=true                       replace the results; the features are kept

linear is one linear map of the mean token, standardised; attentive a learned query with one
cross-attention block over all tokens, as in V-JEPA. Their learning rate is the best on a held-out
fifth of the training list, never on the test list; then they are fitted again on all of it. A test
video that cannot be read counts as wrong, a training video is left out; both are listed in
bad_files.jsonl. Writes results.json, an entry for each probe.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from videomae.config import ConfigError, DataConfig, ProbeConfig, ProbeKind, token_grid
from videomae.data.checks import check_videos, warn_of_shared
from videomae.evaluation.features import SHARD, Encoder, FeatureCache, Features, describe
from videomae.evaluation.metrics import Scores
from videomae.evaluation.probes import AttentiveProbe, LinearProbe, knn_probs
from videomae.evaluation.probing import ProbeError, Recipe, Views, choose_and_fit, logits_of
from videomae.lists.clips import Clip, ClipList, read_clips
from videomae.lists.names import class_names
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.run.arithmetic import uses_bf16
from videomae.run.bad_files import TEST, TRAIN, add_bad_files
from videomae.run.checks import check_place, check_precision, require
from videomae.run.command import command
from videomae.run.console import SafeConsole, Say
from videomae.run.directory import BAD_FILES, RESULTS, RunExistsError
from videomae.run.environment import describe_run
from videomae.run.files import sha256, write_text
from videomae.run.overwrite import check_no_training
from videomae.run.record import made
from videomae.run.run import Run, open_run
from videomae.train.start import SCRATCH
from videomae.video.opening import check_decoder
from videomae.weights.formats import read_weights
from videomae.weights.load import encoder_of

FEATURES = "features"
"""In the output directory."""


def probe(config: ProbeConfig) -> None:
    """Probe the encoder at config.weights."""
    check_precision(config.run)
    require(config, "data.train_list", "data.test_list", "data.root", "data.classes", "weights")
    check_decoder(config.data.decoder)
    with open_run(config.run, config.output_dir) as run:
        directory, say, process = run.directory, run.say, run.processes
        _check_output(config, directory)
        classes = class_names(config.data)
        lists = {key: _clips(config.data, key) for key in ("train_list", "test_list")}
        others = {"data.train_list": lists["train_list"]}
        warn_of_shared(lists["test_list"], "data.test_list", others, say)
        model, data, made_of = _encoder(config, say)
        process.barrier()  # every process has looked before anything changes
        if process.is_main:
            hashes = {f"data.{key}": sha256(Path(str(getattr(config.data, key)))) for key in lists}
            for name in (RESULTS, BAD_FILES):
                (directory / name).unlink(missing_ok=True)
            describe_run(run, config, hashes | {"weights": str(made_of["weights"])})
            made(directory, BAD_FILES)
        made_of["bf16"] = uses_bf16(process.device, config.run.precision)
        encoder = Encoder(model, process.device, config.run.precision)
        found = [_features(run, config, encoder, lists[key], key, data, made_of) for key in lists]
        if process.is_main:
            train, test = found
            add_bad_files(directory, train.bad, TRAIN, say)
            add_bad_files(directory, test.bad, TEST, say)
            labels = [torch.from_numpy(clips.labels()) for clips in lists.values()]
            results = _results(config, encoder, train, test, labels, classes, say)
            write_text(made(directory, RESULTS), json.dumps(results, indent=2) + "\n")
            SafeConsole(highlight=False).print(_table(results))
            say.line(f"{len(lists['test_list'])} test videos: {directory / RESULTS}")


def _check_output(config: ProbeConfig, directory: Path) -> None:
    """Raise unless the results can be written, and replace nothing unasked."""
    check_place("output_dir", directory)
    check_no_training(directory)
    if os.path.exists(directory / RESULTS) and not config.overwrite:
        raise RunExistsError(
            f"output_dir={directory} already holds {RESULTS}: replace it by "
            "overwrite=true (the features are kept), or choose another output_dir"
        )


def _clips(data: DataConfig, key: str) -> ClipList:
    """The clips of data.train_list or data.test_list."""
    clips = read_clips(str(getattr(data, key)), data, labelled=True, key=f"data.{key}")
    check_videos(clips, data, f"data.{key}")
    return clips


def _encoder(
    config: ProbeConfig, say: Say
) -> tuple[VideoMAE | VideoClassifier, DataConfig, dict[str, Any]]:
    """The encoder, the data as it sees them, and what it is, for the features' name."""
    data = replace(config.data, crops=1)
    if config.weights == SCRATCH:
        torch.manual_seed(config.seed)
        made_of = {"weights": SCRATCH, "model": asdict(config.model), "seed": config.seed}
        return VideoMAE(config.model, data.clip).eval(), data, made_of
    weights = read_weights(
        str(config.weights),
        num_heads=config.num_heads,
        decoder_num_heads=config.decoder_num_heads,
    )
    clip = replace(weights.info.clip, stride=data.clip.stride)
    if clip != data.clip:
        say.line(f"data.clip is {data.clip}; the weights' own is taken: {clip}")
    model, report = encoder_of(weights, clip)
    say.line(f"{weights.path}: {report}")
    made_of = {"weights": weights.sha256(), "heads": model.config.heads}
    return model, replace(data, clip=clip), made_of


def _features(
    run: Run,
    config: ProbeConfig,
    encoder: Encoder,
    clips: Sequence[Clip],
    key: str,
    data: DataConfig,
    made_of: dict[str, Any],
) -> Features:
    """Of one list, computed or read. All processes call it.

    Raises:
        ConfigError: the disk is too small for the tokens.
    """
    data = replace(data, segments=config.probe.views if key == "train_list" else 1)
    attentive = ProbeKind.attentive in config.probe.kinds
    cache = FeatureCache(
        Path(config.output_dir) / FEATURES,
        made_of | describe(data) | {"list": sha256(Path(str(getattr(config.data, key))))},
        clips,
        tokens=attentive,
    )
    if attentive and run.is_main:
        videos = min(len(clips), SHARD * len(cache.missing()))
        tokens = np.prod(token_grid(encoder.model.config, data.clip))
        needed = int(videos * data.segments * tokens * encoder.model.config.dim * 2)
        free = shutil.disk_usage(config.output_dir).free
        if needed > free:
            raise ConfigError(
                f"the tokens of {videos} videos of data.{key} take {needed / 1e9:,.1f} GB, "
                f"output_dir={config.output_dir} has {free / 1e9:,.1f} GB left: choose another, "
                "or probe.kinds=[knn,linear], which need no tokens"
            )
    cache.fill(run, encoder, data)
    return cache.read()


def _results(
    config: ProbeConfig,
    encoder: Encoder,
    train: Features,
    test: Features,
    labels: Sequence[Tensor],
    names: Sequence[str],
    say: Say,
) -> dict[str, dict[str, Any]]:
    """What each probe makes of the test videos.

    Args:
        labels: of the training and the test list's videos.

    Raises:
        ProbeError: there is nothing to fit a probe on, or to test it on.
    """
    for name, features in (("train", train), ("test", test)):
        if len(features.video) == 0:
            raise ProbeError(
                f"none of the videos of data.{name}_list can be read; {BAD_FILES} in "
                f"{config.output_dir} says why"
            )
    train_labels, test_labels = labels
    results = {}
    for kind in dict.fromkeys(config.probe.kinds):
        probs, said = _probs(config, kind, encoder, train, test, train_labels, len(names))
        if "lr" in said:
            on = f"the best on {said['num_held_out']} held-out training videos"
            tried = len(config.probe.lrs)
            how = f"{on}, of {tried} rates" if tried > 1 else "the only one given"
            say.line(f"{kind.name}: lr {said['lr']:g}, {how}")
        table = np.full((len(test_labels), len(names)), np.nan, dtype=np.float32)
        table[test.video.numpy()] = probs.numpy()
        scores = Scores(test_labels.numpy(), table, names)
        results[kind.name] = scores.results({"segments": 1, "crops": 1}) | said
    left_out = {"num_train": len(train_labels), "num_train_unreadable": len(train.bad)}
    return {name: entry | left_out for name, entry in results.items()}


def _probs(
    config: ProbeConfig,
    kind: ProbeKind,
    encoder: Encoder,
    train: Features,
    test: Features,
    train_labels: Tensor,
    classes: int,
) -> tuple[Tensor, dict[str, Any]]:
    """(readable test videos, classes) on the CPU, and what the results say of how they came."""
    settings, device, model = config.probe, encoder.device, encoder.model.config
    labels = train_labels[train.video]
    if kind is ProbeKind.knn:
        k, temperature = settings.k, settings.temperature
        sides = (test.mean.to(device), train.mean.to(device), labels.to(device))
        probs = knn_probs(*sides, classes=classes, k=k, temperature=temperature).cpu()
        return probs, {"k": min(k, len(labels)), "temperature": temperature}
    make: Callable[[], nn.Module]
    if kind is ProbeKind.linear:
        make = partial(LinearProbe, train.mean, classes)
        take_train, take_test = train.mean.__getitem__, test.mean.__getitem__
        epochs = settings.linear_epochs
    else:
        make = partial(AttentiveProbe, model.dim, model.heads, classes)
        take_train, take_test = partial(_stacked, train.tokens), partial(_stacked, test.tokens)
        epochs = settings.attentive_epochs
    recipe = Recipe(epochs, settings.batch, settings.weight_decay, config.seed, settings.min_steps)
    chosen = choose_and_fit(
        make, Views(take_train, labels), train.video, settings.lrs, recipe, device
    )
    rows = torch.arange(len(test.video))
    probs = logits_of(chosen.head, take_test, rows, settings.batch, device).softmax(1)
    return probs, {
        "lr": chosen.lr,
        "num_held_out": chosen.num_held_out,
        "held_out_top1": {f"{lr:g}": top1 for lr, top1 in chosen.held_out_top1.items()},
    }


def _stacked(tokens: Sequence[Tensor], rows: Tensor) -> Tensor:
    """The tokens of some views, read from disk: (B,) -> (B, N, D) float32."""
    return torch.stack([tokens[row] for row in rows.tolist()]).float()


def _table(results: dict[str, dict[str, Any]]) -> Table:
    """The accuracies, in percent."""
    table = Table(box=None)
    for column in ("probe", "top-1", "top-5", "mean of classes", "videos", "unreadable"):
        table.add_column(column, justify="left" if column == "probe" else "right")
    for name, entry in results.items():
        accuracies = (entry[key] for key in ("top1", "top5", "mean_class_accuracy"))
        counts = (entry[key] for key in ("num_videos", "num_unreadable"))
        table.add_row(name, *(f"{value:.2f}" for value in accuracies), *map(str, counts))
    return table


main = command("probe")(probe)

if __name__ == "__main__":
    main()
