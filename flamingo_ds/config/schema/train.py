"""The loop and its layout: the keys of a recipe's ``train`` and ``parallel`` sections."""

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING


class Precision(StrEnum):
    """Of activations, gradients and frozen weights; what trains has fp32 masters in both."""

    bf16 = "bf16"
    fp32 = "fp32"


class ScheduleKind(StrEnum):
    """Of the learning rate after the warm-up."""

    constant = "constant"
    cosine = "cosine"


@dataclass
class OptimizerConfig:
    """AdamW as in the paper (appendix B.1.2)."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.1
    """On the gated blocks' matrices; the resampler, gates, norms and new tokens have none."""
    max_grad_norm: float = 1.0


@dataclass
class ScheduleConfig:
    """Learning rate over steps: linear from 0 in the warm-up, then constant or a cosine to 0 at ``max_steps``."""

    kind: ScheduleKind = ScheduleKind.constant
    warmup_steps: int = 5000


@dataclass
class TrainConfig:
    """The loop."""

    max_steps: int = MISSING
    precision: Precision = Precision.bf16
    save_every: int = 1000
    """Steps between checkpoints; there is always one at the end."""
    save_in_background: bool = True
    """Write checkpoints beside training, which stands still only while their content is copied to CPU memory."""
    keep_last: int | None = None
    """How many checkpoints to keep, the newest; None: all."""
    keep_every: int | None = None
    """Beside the last, keep those whose step is a multiple of this."""
    log_every: int = 1
    """Steps between printed lines where there is no terminal for a progress bar."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass
class ParallelConfig:
    """How the model is laid out over ranks; ``tools/plan.py`` compares the choices for a cluster."""

    pipeline_stages: int = 1
    """Stages of the LM stack, each on ranks of its own; 1 for none. The other ranks are replicas: with 2 stages on 8
    GPUs there are 4. What trains is sharded over replicas as in ZeRO stage 1."""
    shard_frozen: bool = False
    """With stages: shard each stage's frozen weights over its replicas, as ZeRO stage 3 would."""
    reshard_after_forward: bool = True
    """With ``shard_frozen``: drop gathered weights behind the forward pass and gather them again for the backward one;
    false gathers once a micro-batch and keeps a stage's weights whole in between."""
    activation_checkpointing: str = "off"
    """off; block: recompute every block of LM, gated layers and resampler; an integer n: every n-th of them."""
    watchdog_s: float = 300.0
    """After so many seconds without progress each rank says where it and the others are; 0: never."""
    timeout_s: float = 1800.0
    """A collective that waits so many seconds for another rank ends the run and names who is missing."""
