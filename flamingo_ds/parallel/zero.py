"""Data parallelism with ZeRO stages 0 to 3: a finished model wrapped from outside by DeepSpeed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from torch import nn

from ..batch import FlamingoBatch
from ..config import DeepSpeedSettings
from ..model.tanh_gate import TanhGate
from .engine import Doing, StepResult, WeightedBatch
from .fp32_state import get_full_state, set_full_state, set_optimizer_step
from .wrap import count_over_ranks, gate_name, mean_over_ranks, set_learning_rate, training_dtype, wrap


class ZeroEngine:
    """The :class:`~flamingo_ds.parallel.engine.TrainEngine` of one model replica a rank.

    Args:
        model: with its weights; frozen parameters have ``requires_grad`` off. It is changed in place.
        optimizer: over the model's trainable parameters.
        settings: complete DeepSpeed settings.
        doing: is told where a step is.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, settings: DeepSpeedSettings, doing: Doing
    ) -> None:
        self.doing = doing
        # Taken before wrapping: below, every rank must visit the same parameters in the same order.
        self.trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.dtype = training_dtype(settings)
        self.engine = wrap(model, optimizer, settings)
        self.device = self.engine.device
        self.world_size = dist.get_world_size()

    def train_step(
        self, micro_batches: Sequence[WeightedBatch], learning_rate: float, counters: Mapping[str, int]
    ) -> StepResult:
        """One optimizer step.

        A dataset's loss is its summed cross-entropy over the number of predicted tokens of the *global* batch, so it
        does not depend on how the batch is cut over ranks and micro-steps. DeepSpeed averages gradients over ranks,
        hence the factor ``world_size``.
        """
        self.doing("counting tokens")
        targets, counters = count_over_ranks(micro_batches, counters, self.device)
        set_learning_rate(self.engine, learning_rate)
        self.engine.train()
        sums = {name: torch.zeros((), device=self.device) for name in targets}
        for number, micro in enumerate(micro_batches):
            self.doing(f"forward of {micro.dataset}")
            divisor = max(targets[micro.dataset], 1) / self.world_size
            batch = micro.batch.to(self.device, self.dtype)
            loss = self.engine(**batch.tensors(), num_items_in_batch=divisor).loss
            self.doing(f"backward of {micro.dataset}")
            self.engine.set_gradient_accumulation_boundary(number == len(micro_batches) - 1)
            self.engine.backward(micro.weight * loss)
            sums[micro.dataset] += loss.detach()
        self.doing("optimizer step")
        grad_norm = self._step()
        self.doing("summing losses")
        means = torch.stack(list(sums.values())).double() / self.world_size
        dist.all_reduce(means)
        losses = dict(zip(sums, means.tolist(), strict=True))
        return StepResult.of(micro_batches, losses, grad_norm, counters)

    @torch.no_grad()
    def eval_loss(self, batches: Sequence[FlamingoBatch]) -> float:
        """See :meth:`TrainEngine.eval_loss`."""
        self.engine.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for number, batch in enumerate(batches, 1):
            self.doing(f"evaluation, forward {number} of {len(batches)}")
            inputs = batch.to(self.device, self.dtype).tensors()
            total += self.engine(**inputs, num_items_in_batch=1, return_logits=False).loss
        self.doing("evaluation, summing losses")
        return mean_over_ranks(total, batches, self.device)

    @torch.no_grad()
    def logits(self, batch: FlamingoBatch) -> torch.Tensor:
        """(B, L, V) in eval mode, on this rank's batch, on the CPU."""
        self.engine.eval()
        inputs = batch.to(self.device, self.dtype).tensors()
        del inputs["labels"]
        return self.engine(**inputs).logits.cpu()

    def gates(self) -> dict[str, float]:
        """Tanh of every gate; none where the blocks have none."""
        gates = {
            f"{name}.gate": module.gate
            for name, module in self.engine.module.named_modules()
            if isinstance(module, TanhGate)
        }
        with deepspeed.zero.GatheredParameters(list(gates.values()), enabled=self._is_sharded()):
            return {gate_name(name): gate.detach().float().tanh().item() for name, gate in gates.items()}

    def share(self) -> tuple[int, int]:
        """See :meth:`TrainEngine.share`."""
        return dist.get_rank(), self.world_size

    def full_state(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """See :meth:`TrainEngine.full_state`; one parameter at a time is whole in memory."""
        for name, parameter in self.trainable.items():
            yield name, get_full_state(self.engine, parameter)

    def load_full_state(self, state: Mapping[str, Mapping[str, torch.Tensor]], step: int) -> None:
        """See :meth:`TrainEngine.load_full_state`. The model must have been built with the same weights."""
        set_optimizer_step(self.engine, step)
        for name, parameter in self.trainable.items():
            set_full_state(self.engine, parameter, state[name])

    def _step(self) -> float:
        """Clip and update; the global gradient norm before clipping."""
        norm: Any = None
        if not self.engine.zero_optimization():
            # Stage 0 clips but does not tell; gradients are averaged over ranks and whole here.
            norm = nn.utils.get_total_norm(
                [parameter.grad for parameter in self.trainable.values() if parameter.grad is not None]
            )
        self.engine.step()
        return float(self.engine.get_global_grad_norm() if norm is None else norm)

    def _is_sharded(self) -> bool:
        return bool(self.engine.zero_optimization_partition_weights())
