"""AdamW, its schedule and its regularisation."""

from dataclasses import dataclass

from videomae.config.settings import check, check_bounds, setting


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, its schedule and its regularisation."""

    global_batch: int = setting(at_least=1, on_page=True, often=True)
    """Videos per optimiser step, over all processes and micro-batches; repeats not counted."""
    base_lr: float = setting(at_least=0, on_page=True, often=True)
    """Peak learning rate per 256 videos; the rate used is base_lr * global_batch / 256."""
    min_lr: float = setting(at_least=0)
    """Where the cosine ends, per 256 videos."""
    betas: list[float] = setting()
    """AdamW's two averaging factors."""
    epochs: int = setting(at_least=1, on_page=True, often=True)
    """Passes over the list; the schedule always spans them all."""
    warmup_epochs: float = setting(at_least=0, on_page=True)
    """Passes during which the rate rises from 0."""
    weight_decay: float = setting(0.05, at_least=0)
    """For matrices only: biases, norms and the mask token are not decayed."""
    eps: float = setting(1e-8, at_least=0)
    """AdamW's epsilon."""
    clip_grad: float | None = setting(None, above=0, null="no clipping")
    """Largest gradient norm; null: not clipped."""
    layer_decay: float = setting(1.0, above=0, at_most=1, on_page=True)
    """Each block's rate as a share of the rate of the block above it."""
    drop_path: float = setting(0.0, at_least=0, at_most=1, finetuning_only=True, on_page=True)
    """Chance that the last block's branches are skipped for a view; rises linearly with depth."""
    head_drop: float = setting(0.0, at_least=0, at_most=1, finetuning_only=True)
    """Dropout before the classifier's head."""
    label_smoothing: float = setting(0.0, at_least=0, at_most=1, finetuning_only=True)
    """Share of the label's probability that is spread over all classes."""
    ema_decay: float | None = setting(
        None, above=0, below=1, null="none", finetuning_only=True, on_page=True
    )
    """Decay per step of a running mean of the weights, which is what is evaluated and written then;
    null: none."""

    def __post_init__(self) -> None:
        check_bounds(self, "optim")
        check(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"optim.betas must be two numbers in [0, 1), got {self.betas}",
        )

    def check_warmup(self) -> None:
        """Check that the warm-up is no longer than the run.

        Raises:
            ConfigError: it is.
        """
        check(
            self.warmup_epochs <= self.epochs,
            f"optim.warmup_epochs={self.warmup_epochs} is more than optim.epochs={self.epochs}",
        )
