"""Read and write weights in every supported format, which is recognised by the path's content.

Add one here; one that is written is also named in WeightsFormat, and one in another container than
safetensors or torch.save is opened by videomae.weights.tensors.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from videomae.config import CLASS, ConfigError, ModelConfig, WeightsFormat
from videomae.run.directory import WEIGHTS
from videomae.run.files import read_json
from videomae.weights.huggingface import TENSOR_FILES, read_huggingface, save_huggingface
from videomae.weights.huggingface_config import CONFIG
from videomae.weights.official import read_official, save_official
from videomae.weights.saved import is_checkpoint
from videomae.weights.tensors import Container, WeightsError, container_of, open_safetensors
from videomae.weights.weights import MARK, Kind, Weights, WeightsInfo, read_own, save_weights

DEEPSPEED = "mp_rank_00_model_states.pt"
"""Name of the weights file in a directory that DeepSpeed writes."""
EXPECTED = (
    f"a {WEIGHTS} or the directory of a run that holds one, a checkpoints/step_N of a run, an "
    f"official .pth, a DeepSpeed directory with {DEEPSPEED}, or a Hugging Face directory with "
    f"{CONFIG}"
)


def read_weights(
    path: str | Path,
    *,
    num_heads: int | None = None,
    decoder_num_heads: int | None = None,
    like: ModelConfig | None = None,
) -> Weights:
    """Read weights in any supported format.

    Args:
        path: a file or a directory.
        num_heads: attention heads of the encoder; default: those of the file or a preset.
        decoder_num_heads: attention heads of the decoder; default: those of the file or a preset.
        like: model whose heads are used if neither the file nor a preset has them.

    Raises:
        WeightsError: the weights cannot be read; the message says what was found and expected.
        ConfigError: the sizes in the file, or the given heads, make no valid model.
    """
    heads = {"num_heads": num_heads, "decoder_num_heads": decoder_num_heads}
    try:
        return _read(Path(path), heads, like)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:  # a name too long, a folder without permission
        raise WeightsError(f"{path} cannot be read: {error}") from error


def _read(path: Path, heads: dict[str, int | None], like: ModelConfig | None) -> Weights:
    if path.parts[-2:] == ("checkpoints", "last") and path.is_file():
        path = path.with_name(_step_named_in(path))
    if path.is_dir():
        if is_checkpoint(path):
            from videomae.weights.checkpoint_reader import read_checkpoint  # a slow import

            return _with_heads(read_checkpoint(path), **heads)
        if (path / WEIGHTS).is_file():
            return _own(path / WEIGHTS, **heads)
        if (path / CONFIG).is_file():
            return read_huggingface(path, **heads)
        if (path / DEEPSPEED).is_file():
            return read_official(path, path / DEEPSPEED, **heads, like=like)
        if checkpoints := sorted(
            (step for step in path.glob("checkpoints/step_*") if step.name[5:].isdecimal()),
            key=lambda step: int(step.name[5:]),
        ):
            raise WeightsError(
                f"the run at {path} has no {WEIGHTS} yet: name a checkpoint, {checkpoints[-1]}"
            )
        endings = (".safetensors", ".pth", ".pt", ".bin")
        if files := sorted(file.name for file in path.iterdir() if file.suffix in endings):
            raise WeightsError(f"no weights at {path}, but in it: name one of {', '.join(files)}")
        splits = sorted(file.parent for file in path.glob(f"split[0-9]*/{WEIGHTS}"))
        if splits:
            raise WeightsError(
                f"{path} is a run over the splits of a data set, with weights for each: name one "
                f"of {', '.join(map(str, splits))}"
            )
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: give weights= {EXPECTED}")
    if container_of(path) is Container.safetensors and MARK in open_safetensors(path)[0]:
        return _own(path, **heads)
    if path.name in TENSOR_FILES and is_huggingface(path.parent):
        return read_huggingface(path.parent, **heads)
    return read_official(path, path, **heads, like=like)


def _step_named_in(last: Path) -> str:
    """Return the name of a run's newest checkpoint, which its file checkpoints/last holds.

    Raises:
        WeightsError: it names none.
    """
    with last.open("rb") as file:
        name = file.read(64).decode("utf-8", "replace").strip()
    if not re.fullmatch(r"step_\d+", name):
        raise WeightsError(f"{last} names no checkpoint: name one beside it, step_N")
    return name


def _own(path: Path, *, num_heads: int | None, decoder_num_heads: int | None) -> Weights:
    """Read a weights file of this project, and replace its numbers of heads if given."""
    return _with_heads(read_own(path), num_heads=num_heads, decoder_num_heads=decoder_num_heads)


def _with_heads(
    weights: Weights, *, num_heads: int | None, decoder_num_heads: int | None
) -> Weights:
    model = trained = weights.info.model
    if num_heads is not None:
        model = replace(model, heads=num_heads)
    if decoder_num_heads is not None and weights.info.kind is Kind.pretrain:
        model = replace(model, decoder_heads=decoder_num_heads)
    notes = [
        f"{ours} {name}, as given; the weights were trained with {own}"
        for name, ours, own in (
            ("heads", model.heads, trained.heads),
            ("decoder heads", model.decoder_heads, trained.decoder_heads),
        )
        if ours != own
    ]
    info = replace(weights.info, model=model)
    return replace(weights, info=info, notes=(*weights.notes, *notes))


def is_huggingface(directory: Path) -> bool:
    """Tell whether a directory's config.json says that it holds a VideoMAE of transformers."""
    try:
        config = read_json(directory / CONFIG)
        return isinstance(config, dict) and config.get("model_type") == "videomae"
    except (OSError, ValueError):
        return False


def write_weights(
    path: Path, format: WeightsFormat, tensors: Mapping[str, Tensor], info: WeightsInfo
) -> list[str]:
    """Write weights in the given format.

    Args:
        path: a file, or a directory for the Hugging Face format.

    Returns:
        a line of text for each property of the weights that the format cannot hold.

    Raises:
        WeightsError: the format cannot hold this model.
    """
    if info.target != CLASS and format is not WeightsFormat.videomae:
        raise WeightsError(
            f"{info.name} was fine-tuned with data.target={info.target}, which format={format.name}"
            " cannot say: others would take its outputs for classes; give format=videomae"
        )
    match format:
        case WeightsFormat.videomae:
            save_weights(path, tensors, info)
            return []
        case WeightsFormat.official:
            return save_official(path, tensors, info)
        case WeightsFormat.huggingface:
            return save_huggingface(path, tensors, info)
