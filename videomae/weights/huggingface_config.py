"""Reading, checking and writing of the config.json of transformers and of its processor's file."""

import json
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from videomae.config import ClipConfig, ModelConfig, Sampling
from videomae.model.pixels import MEAN, STD
from videomae.run.files import read_json, write_text
from videomae.weights.official import CLIP
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, WeightsInfo

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")
"""Files that describe the preparation of pixels, of older and of newer versions of transformers."""
ARCHITECTURES = {
    "VideoMAEForPreTraining": Kind.pretrain,
    "VideoMAEForVideoClassification": Kind.classifier,
    "VideoMAEModel": Kind.encoder,
}
STRIDE = "frame_sampling_rate"
"""Key of config.json for the stride of a clip, in frames of the video; a pipeline of transformers
has a setting of that name. Only this project writes it there; transformers ignores it."""
SAMPLING = "frame_sampling"
"""Key of config.json for how the frames of a classifier's clip are chosen, dense or segment. Only
this project writes and reads it; transformers keeps it, and ignores it."""
ASSUMED = "assumed"
"""Key of config.json for those of num_frames and image_size, which transformers needs, that nobody
has said. Only this project writes and reads it; transformers keeps it, and ignores it."""
CLIP_KEYS = {"frames": "num_frames", "size": "image_size"}
"""Settings of a clip that config.json always has, with their names there."""
DEFAULTS: dict[str, Any] = {
    "num_attention_heads": 12,
    "decoder_num_attention_heads": 6,
    "layer_norm_eps": 1e-12,
    "norm_pix_loss": True,
    "image_size": 224,
    "num_frames": 16,
    STRIDE: None,
    SAMPLING: None,
    ASSUMED: [],
    "num_channels": 3,
    "hidden_act": "gelu",
    "use_mean_pooling": True,
}
"""Default values of transformers for keys that a config.json leaves out."""
SIZES = {
    "hidden_size": "dim",
    "num_hidden_layers": "depth",
    "intermediate_size": "mlp_dim",
    "patch_size": "patch",
    "tubelet_size": "tubelet",
}
"""Settings of config.json that the tensors show too, with their names in ModelConfig."""
DECODER_SIZES = {
    "decoder_hidden_size": "decoder_dim",
    "decoder_num_hidden_layers": "decoder_depth",
    "decoder_intermediate_size": "decoder_mlp_dim",
}
FIXED_EPS = 1e-5
"""Epsilon of the layers fc_norm and decoder.norm in transformers, which config.json cannot
change."""


@dataclass(frozen=True)
class HuggingFaceConfig:
    """The settings in a directory of transformers, with defaults for those that are left out."""

    directory: Path
    kind: Kind
    values: Mapping[str, Any]
    """Values of config.json, by the names of transformers."""

    @classmethod
    def read(cls, directory: Path) -> "HuggingFaceConfig":
        """Read and check config.json, and the processor's file where there is one.

        Raises:
            WeightsError: a file is damaged, or the model is one that this project does not have.
        """
        values = DEFAULTS | read_object(directory / CONFIG)
        config = cls(directory, _kind(values, directory), values)
        _check_settings(config)
        _check_processor(directory)
        return config

    @property
    def clip(self) -> ClipConfig:
        """Size of the clip that the model takes; if no stride is given, that of released models."""
        size = self.values["image_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return ClipConfig(
            frames=self.values["num_frames"],
            stride=CLIP.stride if self.values[STRIDE] is None else self.values[STRIDE],
            size=height,
            width=None if width == height else width,
        )

    @property
    def assumed(self) -> tuple[str, ...]:
        """Settings of the clip that the file does not hold, or names as assumed."""
        named = [ours for ours, theirs in CLIP_KEYS.items() if theirs in self.values[ASSUMED]]
        return (*named, "stride") if self.values[STRIDE] is None else tuple(named)

    @property
    def sampling(self) -> Sampling | None:
        """How the frames of a classifier's clip are chosen; None: the file does not say."""
        return self.values[SAMPLING] and Sampling(self.values[SAMPLING])

    def completed(self, model: ModelConfig) -> ModelConfig:
        """Return model settings from tensors, completed by those that only config.json has.

        Raises:
            WeightsError: config.json gives other sizes than the tensors have.
        """
        sizes = SIZES | (DECODER_SIZES if self.kind is Kind.pretrain else {})
        wrong = [
            f"{theirs}={self.values[theirs]!r} but the tensors have {getattr(model, ours)}"
            for theirs, ours in sizes.items()
            if theirs in self.values
            and self.values[theirs] not in (getattr(model, ours), [getattr(model, ours)] * 2)
        ]
        if wrong:
            raise WeightsError(f"{self.directory / CONFIG} says {', '.join(wrong)}")
        return replace(
            model,
            norm_eps=self.values["layer_norm_eps"],
            decoder_norm_eps=FIXED_EPS,
            fc_norm_eps=FIXED_EPS,
            normalise_targets=self.values["norm_pix_loss"],
        )

    def class_names(self, classes: int | None) -> list[str] | None:
        """Return the names of the classes in order; None if they are not complete and unique.

        Args:
            classes: number of classes of the head; None: not known.
        """
        labels = self.values.get("id2label")
        if not isinstance(labels, Mapping) or not isinstance(classes, int):
            return None
        names = [labels.get(str(i)) for i in range(classes)]
        known = [name for name in names if isinstance(name, str)]
        return known if len(set(known)) == classes == len(labels) else None


def write_config(directory: Path, info: WeightsInfo) -> None:
    """Write config.json and the processor's files, from which transformers makes the model."""
    processor = json.dumps(_processor(info.clip), indent=2) + "\n"
    for name in PROCESSORS:
        write_text(directory / name, processor)
    write_text(directory / CONFIG, json.dumps(_config(info), indent=2) + "\n")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        WeightsError: it is missing or damaged.
    """
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error})") from error
    return content


def _kind(values: Mapping[str, Any], directory: Path) -> Kind:
    """Return the kind of model that a config.json describes.

    Raises:
        WeightsError: this project does not have such a model.
    """
    listed = values.get("architectures")
    architecture = str(listed[0]) if isinstance(listed, list) and listed else None
    if values.get("model_type") != "videomae" or architecture not in ARCHITECTURES:
        raise WeightsError(
            f"{directory} holds a {architecture or 'model without a name'} (model_type "
            f"{values.get('model_type')}); expected one of {', '.join(ARCHITECTURES)}. Official "
            "tensors in such a directory are read when weights= names their file itself"
        )
    if values["hidden_act"] != "gelu" or values["num_channels"] != 3:
        raise WeightsError(
            f"{directory}: hidden_act={values['hidden_act']}, num_channels="
            f"{values['num_channels']}; expected gelu and 3"
        )
    kind = ARCHITECTURES[architecture]
    if kind is Kind.classifier and not values["use_mean_pooling"]:
        raise WeightsError(
            f"{directory} classifies its first token (use_mean_pooling=false); expected one that "
            "classifies the mean of all tokens, as VideoMAE's fine-tuning does"
        )
    return kind


def _check_settings(config: HuggingFaceConfig) -> None:
    """Check the types and bounds of the values that are read from a config.json.

    Raises:
        WeightsError: one is wrong.
    """
    values = config.values
    size = values["image_size"]
    sides = size if isinstance(size, list) else [size, size]
    eps = values["layer_norm_eps"]
    right = {
        "num_attention_heads": _is_count(values["num_attention_heads"]),
        "num_frames": _is_count(values["num_frames"]),
        STRIDE: values[STRIDE] is None or _is_count(values[STRIDE]),
        SAMPLING: values[SAMPLING] in (None, *(each.value for each in Sampling)),
        ASSUMED: isinstance(values[ASSUMED], list)
        and all(name in CLIP_KEYS.values() for name in values[ASSUMED]),
        "image_size": len(sides) == 2 and all(map(_is_count, sides)),
        "layer_norm_eps": type(eps) in (int, float) and 0 < eps < math.inf,
    }
    if config.kind is Kind.pretrain:
        right["decoder_num_attention_heads"] = _is_count(values["decoder_num_attention_heads"])
        right["norm_pix_loss"] = isinstance(values["norm_pix_loss"], bool)
    if wrong := [f"{name}={values[name]!r}" for name in right if not right[name]]:
        raise WeightsError(f"{config.directory / CONFIG} makes no sense: {', '.join(wrong)}")


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _check_processor(directory: Path) -> None:
    """Check that the processor normalises pixels with the mean and standard deviation of VideoMAE.

    Raises:
        WeightsError: it does not.
    """
    for name in PROCESSORS:
        if not (directory / name).exists():
            continue
        found = read_object(directory / name)
        for key, ours in (("image_mean", MEAN), ("image_std", STD)):
            theirs = found.get(key, list(ours))
            numbers = isinstance(theirs, list) and all(type(x) in (int, float) for x in theirs)
            if not numbers or len(theirs) != len(ours) or not np.allclose(theirs, ours, atol=1e-3):
                raise WeightsError(
                    f"{directory / name}: {key}={reprlib.repr(theirs)}, but every VideoMAE is made "
                    f"for {list(ours)}: these weights would get other pixels here"
                )


def _config(info: WeightsInfo) -> dict[str, Any]:
    model, clip = info.model, info.clip
    architecture = next(name for name, kind in ARCHITECTURES.items() if kind is info.kind)
    height, width = clip.frame
    config = {
        "architectures": [architecture],
        "model_type": "videomae",
        "attention_probs_dropout_prob": 0.0,
        "decoder_hidden_size": model.decoder_dim,
        "decoder_intermediate_size": model.decoder_mlp_dim,
        "decoder_num_attention_heads": model.decoder_heads,
        "decoder_num_hidden_layers": model.decoder_depth,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": model.dim,
        "image_size": height if height == width else [height, width],
        "intermediate_size": model.mlp_dim,
        "layer_norm_eps": model.norm_eps,
        "norm_pix_loss": model.normalise_targets,
        "num_attention_heads": model.heads,
        "num_channels": 3,
        "num_frames": clip.frames,
        "num_hidden_layers": model.depth,
        "patch_size": model.patch,
        "qkv_bias": True,
        "torch_dtype": "float32",
        "tubelet_size": model.tubelet,
        "use_mean_pooling": info.kind is Kind.classifier,
    }
    if "stride" not in info.assumed:
        config[STRIDE] = clip.stride
    if named := [theirs for ours, theirs in CLIP_KEYS.items() if ours in info.assumed]:
        config[ASSUMED] = named
    if info.sampling is not None:
        config[SAMPLING] = info.sampling.value
    if info.kind is Kind.classifier:
        names = info.class_names or [f"LABEL_{i}" for i in range(info.classes or 0)]
        config["id2label"] = {str(i): name for i, name in enumerate(names)}
        config["label2id"] = {name: i for i, name in enumerate(names)}
    return config


def _processor(clip: ClipConfig) -> dict[str, Any]:
    """Return the processor settings that are nearest to the preparation of frames in this project.

    transformers always averages source pixels (antialiasing) when it makes a frame smaller, which
    the evaluation here does not, and no setting turns it off. With the bilinear filter pixels
    differ by 0.4 of 255 on average for frames of 240 x 320, 0.7 for 256 x 340 and 3.5 for 720 x
    1280 (photographs, shrunk to 224); the nearest pixel (3.1, 3.1, 2.1) and the bicubic filter
    (1.0, 1.0, 3.1) differ more in the sizes of the benchmarks.
    """
    height, width = clip.frame
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "video_processor_type": "VideoMAEVideoProcessor",
        "do_resize": True,
        "size": {"shortest_edge": min(height, width)},
        "resample": 2,  # bilinear
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
