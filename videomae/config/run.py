"""Settings of the hardware, and of how often logs and checkpoints are written."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.settings import USES, check, check_bounds, setting


class Precision(Enum):
    """The precisions of matrix products.

    auto: bf16 autocast on CUDA devices that have it, float32 elsewhere. fp16: as VideoMAE's own
    code tests; for evaluate and predict only.
    """

    auto = "auto"
    float32 = "float32"
    bf16 = "bf16"
    fp16 = "fp16"


class Device(Enum):
    """The kinds of device. auto: the process's own CUDA device if there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Sharding(Enum):
    """The ways to spread a model over several processes; videomae.train.sharding does it.

    With one process they are all the same.
    """

    auto = "auto"
    none = "none"
    ddp = "ddp"
    fsdp = "fsdp"
    hsdp = "hsdp"


class GradientType(Enum):
    """The dtypes in which gradients are sent between processes."""

    float32 = "float32"
    bf16 = "bf16"


class AttentionBackend(Enum):
    """The attention kernels, named as in torch.nn.attention.SDPBackend.

    auto: the fastest one, where it is measured; torch: the one that torch chooses.
    """

    auto = "auto"
    torch = "torch"
    flash = "flash"
    cudnn = "cudnn"
    efficient = "efficient"
    math = "math"


class Recompute(Enum):
    """The kinds of activation recomputation: the backward pass recomputes to save memory.

    selective: all but matrix products and attention; full: each block from its input.
    """

    none = "none"
    selective = "selective"
    full = "full"


AUTO = "auto"
"""Value of run.device_batch for which the number is measured at the start of the training."""
UNTRAINED = 8
"""Views per batch in evaluations where run.device_batch=auto."""


@dataclass(frozen=True)
class RunConfig:
    """Settings of the hardware, and of how often logs and checkpoints are written.

    They change only the rounding of numbers and the random choices of drop path in a training.
    """

    device: Device = setting(Device.auto, often=True)
    """Device of the model: auto, cpu or cuda."""
    precision: Precision = Precision.auto
    """Precision of matrix products: auto, float32, bf16 or fp16; weights, loss and targets are
    always float32. fp16 is for evaluate and predict only."""
    sharding: Sharding = setting(Sharding.auto, often=True)
    """How the model is spread over several processes. ddp: each process holds a whole copy; fsdp:
    each holds a part of every parameter; hsdp: fsdp within groups of run.shards processes, and each
    group holds a whole copy. auto: ddp for ViT-L and smaller, else fsdp on one machine and hsdp on
    several. none: more than one process is an error."""
    shards: int | None = setting(None, at_least=1, no_effect_in=USES)
    """Number of processes that hold one copy of the model together (sharding=hsdp); null: all of
    one machine."""
    reduce_dtype: GradientType = setting(GradientType.float32, no_effect_in=USES)
    """Dtype in which gradients are summed over the processes: float32 or bf16. bf16 halves the data
    that is sent, and rounds the sums to about three digits."""
    recompute: Recompute = setting(Recompute.none, no_effect_in=USES)
    """Part of each block that the backward pass recomputes to save memory. none: nothing;
    selective: all but matrix products and attention; full: the whole block."""
    attention: AttentionBackend = setting(AttentionBackend.auto, no_effect_in=USES)
    """Attention kernel: auto, torch, flash, cudnn, efficient or math. auto: on GPUs each kernel is
    timed at the start, for the encoder and for the decoder, and the fastest is used; on CPUs torch
    chooses."""
    device_batch: int | str = setting(16, at_least=1, often=True)
    """Largest number of videos per device and micro-batch; the largest divisor of the device's
    share of the global batch up to it is used. auto: as many as the memory holds, measured when
    training begins and written to config.yaml for a restart."""
    workers: int | None = setting(None, at_least=0, often=True)
    """Number of decoding processes per training process; null: on GPUs its share of the CPU cores
    less two, on CPUs half of its share."""
    log_every: int = setting(10, at_least=1, no_effect_in=USES)
    """Number of steps between two lines of metrics.jsonl."""
    image_every: int = setting(1000, at_least=0, no_effect_in=USES)
    """Number of steps between two reconstruction images in TensorBoard (pre-training); 0: none."""
    compile: bool = setting(False, no_effect_in=USES)
    """Whether each transformer block is compiled (torch.compile) when training begins, which takes
    minutes on a GPU and needs a C++ compiler on a CPU. Evaluations are not compiled."""
    float8: bool = setting(False, no_effect_in=USES)
    """Whether the blocks' matrix products run in float8 in training (pip install
    "videomae[float8]"), for Hopper GPUs and later with run.compile=true; on CPUs it is emulated.
    Evaluations and weights are as without it."""
    profile: bool = setting(False, no_effect_in=USES)
    """Whether profile/trace.json is written, a trace of a few early steps for
    https://ui.perfetto.dev."""
    wandb: str | None = setting(None, no_effect_in=USES)
    """Weights & Biases project to which the metrics are sent as well (pip install
    "videomae[wandb]"); null: none."""
    mlflow: str | None = setting(None, no_effect_in=USES)
    """MLflow experiment to which the metrics are sent as well (pip install "videomae[mlflow]"), in
    the store of MLFLOW_TRACKING_URI or, without one, in the run directory; null: none."""
    checkpoint_every: int | None = setting(1000, at_least=1, no_effect_in=USES)
    """Number of steps between two checkpoints; null: only run.checkpoint_every_min decides."""
    checkpoint_every_min: float | None = setting(None, above=0, no_effect_in=USES)
    """Minutes between two checkpoints, by the main process's clock; null: only run.checkpoint_every
    decides. If both are given, the one that is reached first counts."""
    background_checkpoints: bool | None = setting(None, no_effect_in=USES)
    """Whether training goes on while a checkpoint is written from a copy in CPU memory; null: yes
    on GPUs, no on CPUs."""
    keep_checkpoints: int = setting(2, at_least=1, no_effect_in=USES)
    """Number of newest checkpoints that are kept; older ones are deleted."""
    stall_timeout_s: float = setting(1800.0, above=0, no_effect_in=USES)
    """Seconds that a training step may take. A process that takes longer, for example because
    another one hangs, prints where it is and ends, so that a launcher can restart all processes.
    Evaluations may take longer."""
    max_nonfinite: int = setting(3, at_least=1, no_effect_in=USES)
    """Number of steps in a row without a finite gradient after which training stops."""

    @property
    def untrained_batch(self) -> int:
        """Views per batch in evaluations, which need less memory than training."""
        return UNTRAINED if isinstance(self.device_batch, str) else self.device_batch

    def __post_init__(self) -> None:
        check_bounds(self, "run")
        check(
            not isinstance(self.device_batch, str) or self.device_batch == AUTO,
            f"run.device_batch must be a number or {AUTO}, got {self.device_batch!r}",
        )
        check(
            self.shards is None or self.sharding in (Sharding.auto, Sharding.hsdp),
            f"run.shards={self.shards} is for run.sharding=hsdp, not {self.sharding.name}",
        )
        check(
            self.checkpoint_every is not None or self.checkpoint_every_min is not None,
            "run.checkpoint_every and run.checkpoint_every_min are both null: give one of them",
        )
