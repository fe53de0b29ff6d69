"""Settings of the stages of curate that need a model: persons, text, embed."""

from dataclasses import dataclass

from videomae.config.settings import check, setting
from videomae.config.use import FeatureType

ARCHITECTURES = (
    *("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"),
    *("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"),
    *("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"),
    *("ssd300_vgg16", "ssdlite320_mobilenet_v3_large"),
    *("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "keypointrcnn_resnet50_fpn"),
)
"""Detectors of torchvision whose weights persons.weights may be."""
AUTO = "auto"
RAPIDOCR = "rapidocr"


@dataclass(frozen=True)
class PersonsConfig:
    """Settings of stage persons: the detector, one of three kinds, and what counts of it."""

    weights: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/detector.pth", often=True
    )
    """Weights file of a detector of torchvision, safetensors or a state dict of torch.save."""
    architecture: str = setting(AUTO, choices=(AUTO, *ARCHITECTURES))
    """Name of the detector in torchvision that persons.weights is of; auto: the one whose tensors
    the file has."""
    class_names: str | None = setting(None, is_path=True, must_exist=True)
    """Text file with the names of the classes of persons.weights: line i is the name of class i,
    and class 0 is the background; null: those of COCO."""
    detector: str | None = setting(None, is_path=True, must_exist=True, example="/path/to/detr")
    """Directory of a detector of Hugging Face transformers, with safetensors."""
    detections: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/detections.jsonl"
    )
    """File of JSON lines with the boxes that a detector of your own has found, a line a frame."""
    label: str = "person"
    """Name of the class that is a person."""
    face_label: str = "face"
    """Name of the class that is a face, where the detector has one."""
    frames: int = setting(4, at_least=1)
    """Number of frames of a clip that are looked at, at even distances."""
    score: float = setting(0.5, at_least=0.05, at_most=1)
    """Smallest score of a box that counts."""
    blur_faces: bool | None = None
    """Whether thumbnails are made anew with faces blurred; null: where the detector finds faces."""

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("weights", "detector", "detections")}
        named = [f"persons.{name}={value}" for name, value in given.items() if value is not None]
        check(len(named) < 2, f"{' and '.join(named)}: give one of them")
        check(
            self.architecture in (AUTO, *ARCHITECTURES),
            f"persons.architecture={self.architecture} must be {AUTO} or one of "
            f"{', '.join(ARCHITECTURES)}",
        )

    @property
    def is_given(self) -> bool:
        """Whether a detector, or what one has found, is given."""
        return any(each is not None for each in (self.weights, self.detector, self.detections))


@dataclass(frozen=True)
class TextConfig:
    """Settings of stage text, which measures how much of the picture text covers."""

    model: str | None = setting(None, choices=(RAPIDOCR,), example=RAPIDOCR, often=True)
    """Model that finds text: rapidocr, which ships its files; null: stage=all leaves the stage
    out."""
    frames: int = setting(4, at_least=1)
    """Number of frames of a clip that are looked at, at even distances."""
    score: float = setting(0.5, at_least=0, at_most=1)
    """Smallest score of the characters that were read in a box, for the box to count."""

    def __post_init__(self) -> None:
        check(self.model in (None, RAPIDOCR), f"text.model={self.model} must be {RAPIDOCR} or null")


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of stage embed, which computes features of clips and clusters them."""

    weights: str | None = setting(
        None, is_path=True, must_exist=True, example="/path/to/weights.safetensors", often=True
    )
    """Weights whose encoder computes the features, of any kind that extract reads."""
    num_heads: int | None = setting(None, at_least=1)
    """Number of attention heads of the encoder; null: as the weights or the presets say."""
    dtype: FeatureType = FeatureType.float16
    """Dtype of the written features: float32 or float16."""
    clusters: int | None = setting(None, at_least=1)
    """Number of clusters of k-means; null: none."""
    seed: int = setting(0, at_least=0)
    """Random seed of the clusters."""
