"""Pipeline x data parallelism: every rank one stage, DeepSpeed's 1F1B schedule over the micro-batches of a step."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.pipe import PipelineModule
from torch import nn

from ..batch import FlamingoBatch
from ..config import DeepSpeedSettings
from ..model.tanh_gate import TanhGate
from .engine import Doing, StepResult, WeightedBatch
from .fp32_state import get_full_state, set_full_state, set_optimizer_step
from .stage import FlamingoStage
from .topology import Topology
from .wrap import count_over_ranks, gate_name, mean_over_ranks, quiet, set_learning_rate, training_dtype, wrap


class StageModule(PipelineModule):
    """DeepSpeed's pipeline around one stage of ours: the other stages' layers are not built on this rank.

    Args:
        stage: of this rank.
        topology: of this rank.
    """

    def __init__(self, stage: FlamingoStage, topology: Topology) -> None:
        layers = [stage if index == topology.stage else nn.Identity() for index in range(topology.stages)]
        with quiet():  # it prints its seeds
            super().__init__(
                layers, num_stages=topology.stages, partition_method="uniform", loss_fn=None, dynamic_shape=True
            )
        self._tied = self._share_tied_weights(stage, topology)

    def get_tied_weights_and_groups(self) -> list[tuple[nn.Parameter, Any]]:
        """What first and last stage both have and train, with the two ranks that sum its gradients before each step."""
        return self._tied

    @staticmethod
    def _share_tied_weights(stage: FlamingoStage, topology: Topology) -> list[tuple[nn.Parameter, Any]]:
        if not stage.has_ties:
            return []
        group = None
        for replica in range(topology.data_ranks):
            ranks = [replica, topology.data_ranks * (topology.stages - 1) + replica]
            made = dist.new_group(ranks)  # every rank makes every group
            if topology.rank in ranks:
                group = made
        tied = [(name, parameter) for name, parameter in stage.tied_parameters() if parameter.requires_grad]
        for _, parameter in tied:
            parameter.ds_pipe_replicated = topology.is_last  # it counts once in the gradient's norm
        return [(parameter, group) for _, parameter in sorted(tied)]


class PipelineEngine:
    """The :class:`~flamingo_ds.parallel.engine.TrainEngine` of one stage of one replica a rank.

    Only the first stage is given samples; the others are called with empty batches of the same datasets in the same
    order, and hear of targets and counters by the reductions that are needed anyway.

    Args:
        stage: of this rank, with its weights.
        optimizer: over the stage's trainable parameters.
        settings: complete DeepSpeed settings; ``gradient_accumulation_steps`` is the number of micro-batches of a step.
        topology: of this rank.
        doing: is told where a step is.
    """

    def __init__(
        self,
        stage: FlamingoStage,
        optimizer: torch.optim.Optimizer,
        settings: DeepSpeedSettings,
        topology: Topology,
        doing: Doing,
    ) -> None:
        self.stage, self.topology, self.doing = stage, topology, doing
        # Taken before wrapping; a tied weight's second copy is none of the model's names.
        self.trainable = {name: parameter for name, parameter in stage.named_weights() if parameter.requires_grad}
        self.dtype = training_dtype(settings)
        self.engine = wrap(StageModule(stage, topology), optimizer, settings)
        self.device = self.engine.device

    def train_step(
        self, micro_batches: Sequence[WeightedBatch], learning_rate: float, counters: Mapping[str, int]
    ) -> StepResult:
        """One optimizer step; the loss is normalised as in every layout (see ``ZeroEngine.train_step``).

        DeepSpeed averages gradients over the replicas and over the micro-batches, hence two factors.
        """
        self.doing("counting tokens")
        targets, counters = count_over_ranks(micro_batches, counters, self.device)
        set_learning_rate(self.engine, learning_rate)
        replicas, steps = self.topology.data_ranks, len(micro_batches)
        divisors = [max(targets[micro.dataset], 1) / replicas for micro in micro_batches]
        means: list[torch.Tensor] = []

        def loss_of(summed: torch.Tensor, divisor_and_weight: torch.Tensor) -> torch.Tensor:
            mean = summed / divisor_and_weight[0]
            means.append(mean.detach())
            return divisor_and_weight[1] * steps * mean

        self.doing(f"pipeline of {', '.join(targets)}")
        self.engine.module.loss_fn = loss_of
        self.engine.train_batch(self._loaded(micro_batches, divisors))
        self.doing("summing losses")
        losses = dict.fromkeys(targets, 0.0)
        for micro, mean in zip(micro_batches, means, strict=False):  # the last stage's alone
            losses[micro.dataset] += float(mean) / replicas
        summed = torch.tensor(list(losses.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        losses = dict(zip(losses, summed.tolist(), strict=True))
        return StepResult.of(micro_batches, losses, float(self.engine.get_global_grad_norm()), counters)

    def eval_loss(self, batches: Sequence[FlamingoBatch]) -> float:
        """See :meth:`TrainEngine.eval_loss`."""
        self.doing(f"evaluation, pipeline of {len(batches)}")
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for summed in self._forward(batches):
            total += summed
        self.doing("evaluation, summing losses")
        return mean_over_ranks(total, batches, self.device)

    def logits(self, batch: FlamingoBatch) -> torch.Tensor:
        """(B, L, V) on the first stage, of the batch that it is given; nothing on the others."""
        topology = self.topology
        outputs = self._forward([replace(batch, labels=batch.labels[:0])])
        first = topology.data_rank
        last = first + topology.data_ranks * (topology.stages - 1)
        if topology.is_last:
            (logits,) = outputs
            dist.send(torch.tensor(logits.shape, device=self.device), first)
            dist.send(logits.contiguous(), first)
        elif topology.is_first:
            shape = torch.zeros(3, dtype=torch.int64, device=self.device)
            dist.recv(shape, last)
            logits = torch.empty(shape.tolist(), dtype=self.dtype, device=self.device)
            dist.recv(logits, last)
            return logits.cpu()
        return torch.empty(0)

    def gates(self) -> dict[str, float]:
        """Tanh of every gate of every stage."""
        if self.stage.model.config.gate == "none":
            return {}
        names = [
            f"gated_cross_attention.{index}.{kind}.gate"
            for index in self.stage.model.config.gated_block_indices
            for kind in ("attention_gate", "feed_forward_gate")
        ]
        values = torch.zeros(len(names), dtype=torch.float64, device=self.device)
        if self.topology.data_rank == 0:
            for name, module in self.stage.model.named_modules():
                if isinstance(module, TanhGate):
                    values[names.index(f"{name}.gate")] = module.gate.detach().float().tanh().item()
        dist.all_reduce(values)
        return dict(zip(map(gate_name, names), values.tolist(), strict=True))

    def share(self) -> tuple[int, int]:
        """See :meth:`TrainEngine.share`."""
        return self.topology.data_rank, self.topology.data_ranks

    def full_state(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """See :meth:`TrainEngine.full_state`; one parameter at a time is whole in memory."""
        for name, parameter in self.trainable.items():
            yield name, get_full_state(self.engine, parameter)

    def load_full_state(self, state: Mapping[str, Mapping[str, torch.Tensor]], step: int) -> None:
        """See :meth:`TrainEngine.load_full_state`. The stage must have been built with the same weights."""
        set_optimizer_step(self.engine, step)
        for name, parameter in itertools.chain(self.trainable.items(), self._second_copies()):
            set_full_state(self.engine, parameter, state[name])

    def _forward(self, batches: Sequence[FlamingoBatch]) -> list[torch.Tensor]:
        """Micro-batches through all stages in eval mode: what the last stage makes of each, on that stage alone."""
        self.engine.total_loss = None  # what is left of training would be added to
        inputs = (batch.to(self.device, self.dtype).tensors() for batch in batches)
        outputs = self.engine.eval_batch(
            iter([(tuple(tensors.values()), torch.zeros(())) for tensors in inputs]),
            compute_loss=False,
            reduce_output=None,
            bcast_loss=False,
            num_micro_batches=len(batches),
        )
        return outputs or []

    def _second_copies(self) -> Iterator[tuple[str, nn.Parameter]]:
        if self.topology.is_last:
            yield from ((name, weight) for name, weight in self.stage.tied_parameters() if weight.requires_grad)

    def _loaded(self, micro_batches: Sequence[WeightedBatch], divisors: Sequence[float]) -> Iterator[Any]:
        """What first and last stage load: the batch, and how its summed loss counts."""
        for micro, divisor in zip(micro_batches, divisors, strict=True):
            inputs = tuple(micro.batch.to(self.device, self.dtype).tensors().values())
            yield inputs, torch.tensor([divisor, micro.weight], dtype=torch.float32)
