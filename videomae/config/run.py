"""The hardware, and how often things are written."""

from dataclasses import dataclass
from enum import Enum

from videomae.config.settings import check, check_bounds, setting


class Precision(Enum):
    """auto: bf16 autocast on CUDA devices that have it, float32 elsewhere.

    fp16: as VideoMAE's own code tests; for evaluate and predict alone.
    """

    auto = "auto"
    float32 = "float32"
    bf16 = "bf16"
    fp16 = "fp16"


class Device(Enum):
    """auto: the process's own CUDA device where there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Sharding(Enum):
    """How several processes hold the model; see videomae.train.sharding. With one process they are
    all the same."""

    auto = "auto"
    none = "none"
    ddp = "ddp"
    fsdp = "fsdp"
    hsdp = "hsdp"


class GradientType(Enum):
    """Floats of gradients on their way between processes."""

    float32 = "float32"
    bf16 = "bf16"


class AttentionBackend(Enum):
    """An implementation of attention, as torch.nn.attention.SDPBackend names them.

    auto: whichever is fastest where it is measured; torch: whichever torch takes.
    """

    auto = "auto"
    torch = "torch"
    flash = "flash"
    cudnn = "cudnn"
    efficient = "efficient"
    math = "math"


class Recompute(Enum):
    """What the backward pass computes again, in order to keep less of the forward pass.

    selective: all but matrix products and attention; full: each block from its input.
    """

    none = "none"
    selective = "selective"
    full = "full"


AUTO = "auto"
"""Of a number: to be found out."""
UNTRAINED = 8
"""Videos at once in evaluations where run.device_batch=auto."""


@dataclass(frozen=True)
class RunConfig:
    """The hardware, and how often things are written.

    It decides how numbers are rounded, and which units drop path drops; nothing else is learned.
    """

    device: Device = setting(Device.auto, often=True)
    """Where the model is."""
    precision: Precision = Precision.auto
    """Arithmetic of the matrix products; weights, loss and targets are always float32. fp16 is for
    evaluate and predict alone."""
    sharding: Sharding = setting(Sharding.auto, often=True)
    """How several processes hold the model. ddp: each a whole one; fsdp: each a part of every
    parameter; hsdp: the same within groups of run.shards processes, which are copies of each other.
    auto: ddp for ViT-L and smaller; else fsdp on one machine, hsdp on several. none: several
    processes are an error."""
    shards: int | None = setting(None, at_least=1)
    """Processes that hold one model between them (hsdp); null: those of one machine."""
    reduce_dtype: GradientType = GradientType.float32
    """Floats in which gradients are added up over the processes. bf16: half as much travels, and
    the sums are rounded to three digits."""
    recompute: Recompute = Recompute.none
    """What is computed again in the backward pass of each block, so that less is kept in memory:
    none; selective: all but matrix products and attention; full: the whole block."""
    attention: AttentionBackend = AttentionBackend.auto
    """Which implementation computes attention. auto: on GPUs each is tried at the start, for the
    encoder and for the decoder, and the fastest is taken; on CPUs torch's own choice."""
    device_batch: int | str = setting(16, at_least=1, often=True)
    """Most videos per device and micro-batch; the largest divisor that fits is taken. auto: as many
    as the memory takes, measured when training begins, and kept in config.yaml for a restart."""
    workers: int | None = setting(None, at_least=0, often=True)
    """Decoding processes per training process; null: its share of the cores, less two on GPUs, half
    of it on CPUs."""
    log_every: int = setting(10, at_least=1)
    """Steps between two lines of metrics.jsonl."""
    image_every: int = setting(1000, at_least=0)
    """Steps between two reconstruction images in TensorBoard (pre-training); 0: none."""
    compile: bool = False
    """Compile each transformer block (torch.compile) when training begins, which takes minutes on a
    GPU and needs a C++ compiler on a CPU. Evaluations run as they are."""
    float8: bool = False
    """Matrix products of the blocks in float8 (pip install "videomae[float8]"), for Hopper and
    later, with run.compile=true; on CPUs emulated. Evaluations and weights are as without it."""
    profile: bool = False
    """Write profile/trace.json: what a few early steps did when, for https://ui.perfetto.dev."""
    wandb: str | None = None
    """Project of Weights & Biases that gets the metrics too (pip install wandb); null: none."""
    checkpoint_every: int | None = setting(1000, at_least=1)
    """Steps between two checkpoints; null: run.checkpoint_every_min alone decides."""
    checkpoint_every_min: float | None = setting(None, above=0)
    """Minutes between two checkpoints, by the main process's clock; null: steps alone decide. Where
    both are given, whichever comes first."""
    background_checkpoints: bool | None = None
    """Whether training goes on while a checkpoint is written, from a copy in the CPU's memory;
    null: on GPUs."""
    keep_checkpoints: int = setting(2, at_least=1)
    """How many of the newest checkpoints are kept."""
    stall_timeout_s: float = setting(1800.0, above=0)
    """Seconds that a step may take. A process that takes longer, as when another hangs, says where
    it is and ends, so that a launcher can start all again. Evaluations may take longer."""
    max_nonfinite: int = setting(3, at_least=1)
    """Training stops after this many steps in a row without a finite gradient."""

    @property
    def untrained_batch(self) -> int:
        """Videos at once where nothing is trained, and so little memory is needed."""
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
