"""The settings that weights are used with: their own, but for those on the command line.

evaluate, probe, predict, extract and reconstruct take clip, sampling and model from here. What the
file does not hold, as an official .pth may not, comes from the config.
"""

from dataclasses import dataclass, replace

from videomae.config import ClipConfig, DataConfig, ModelConfig
from videomae.run.given import Given
from videomae.weights.weights import ASSUMABLE, SIZES, Weights, WeightsInfo

FREE = ("norm_eps", "fc_norm_eps", "positions", "position_grid")
"""Settings of a model that its tensors do not show, so that other values can be tried; the number
of heads is another, which the weights are read with."""


@dataclass(frozen=True)
class Usage:
    """Weights and the data settings that they are used with."""

    weights: Weights
    """The weights; their clip is the one that they were trained on, as far as anybody says."""
    data: DataConfig
    """The data settings, with the clip and the sampling that are used."""
    told: tuple[str, ...]
    """Lines for the log: which value came from where."""


def usage_of(weights: Weights, data: DataConfig, told: Given) -> Usage:
    """Return weights and data settings as they are used together.

    The clip and the sampling are those of the weights, but for those that the command line gave.
    What the weights do not hold comes from `data`.
    """
    trained = used = weights.info.clip
    held, lacking, differing, unknown = list[str](), list[str](), list[str](), list[str]()
    for name in ASSUMABLE:
        key, value = f"data.clip.{name}", getattr(data.clip, name)
        chosen = {name: value} | ({"width": data.clip.width} if name == "size" else {})
        is_held = name not in weights.info.assumed
        if told.itself(key):
            differing += difference(key, value, getattr(trained, name) if is_held else None)
            unknown += [name] if not is_held and name != "stride" else []
            used = replace(used, **chosen)
        elif is_held:
            held.append(f"{name}={getattr(trained, name)}")
        else:
            lacking.append(f"{name}={value}")
            trained, used = replace(trained, **chosen), replace(used, **chosen)
    if told.itself("data.clip.width"):
        differing += difference("data.clip.width", data.clip.width, trained.frame[1])
        used = replace(used, width=data.clip.width)
    sampling, own = data.sampling, weights.info.sampling
    if told.itself("data.sampling"):
        differing += difference("data.sampling", sampling.name, own.name if own else None)
    elif own is not None:
        sampling = own
        held.append(f"sampling={own.name}")
    else:
        lacking.append(f"sampling={sampling.name}")
    lines = [f"from the weights: {', '.join([weights.info.model.name, *held])}"]
    if lacking:
        source = f"data={told.data}" if told.data else "the config"
        source = f"exp={told.exp}" if told.exp else source
        lines.append(f"not said by the weights, so from {source}: {', '.join(lacking)}")
    info = replace(weights.info, clip=trained, assumed=tuple(sorted(unknown)))
    return Usage(
        replace(weights, info=info),
        replace(data, clip=used, sampling=sampling),
        (*lines, *differing),
    )


def with_stride(weights: Weights, stride: int | None) -> tuple[Weights, ClipConfig, list[str]]:
    """Return weights and the clip that they are used with, where only the stride can be given.

    Args:
        stride: the stride that the command line gives; None: it gives none.

    Returns:
        the weights; their clip with that stride; lines for the log.
    """
    clip = weights.info.clip
    if stride is None:
        return weights, clip, []
    trained = None if "stride" in weights.info.assumed else clip.stride
    assumed = tuple(name for name in weights.info.assumed if name != "stride")
    told = difference("stride", stride, trained)
    weights = replace(weights, info=replace(weights.info, assumed=assumed))
    return weights, replace(clip, stride=stride), told


def difference(key: str, value: object, trained: object) -> list[str]:
    """Return a line on a setting of the command line that differs from that of the weights.

    Args:
        trained: value that the weights were trained with; None: they do not say.
    """
    if value == trained:
        return []
    theirs = "do not say theirs" if trained is None else f"were trained at {trained}"
    return [f"{key}={value} from the command line; the weights {theirs}"]


def model_of_usage(
    info: WeightsInfo, ours: ModelConfig, told: Given
) -> tuple[WeightsInfo, ModelConfig, list[str]]:
    """Return the model that weights are used as: their own, but for what the command line gave.

    Args:
        ours: the model settings of the config.

    Returns:
        the description of the weights with what the command line changes of it; the settings of
        the model, whose sizes the command line may have wrong; lines for the log.
    """
    lines, model = [], info.model
    for name in FREE:
        key, value = f"model.{name}", getattr(ours, name)
        if told.itself(key) and value != getattr(model, name):
            lines += difference(key, value, getattr(model, name))
            model = replace(model, **{name: value})
    info = replace(info, model=model)
    named = [name for name in (*SIZES, "heads") if told.has(f"model.{name}")]
    if "model" in told.keys:
        named.append("name")
    return info, replace(model, **{name: getattr(ours, name) for name in named}), lines
