"""Laying a model out over ranks, from outside and in a stated order; the model never knows."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import deepspeed
import torch
import torch.distributed as dist
from rich.table import Table
from torch import nn

from ..config import ConfigError, DeepSpeedSettings
from ..model import FlamingoForConditionalGeneration
from .activation_checkpointing import recompute_blocks
from .engine import Doing, TrainEngine
from .materialize import Filler, ReadWeight, hold, parameter_slots
from .pipeline import PipelineEngine
from .planning import (
    Batches,
    Buffers,
    Layout,
    ModelCosts,
    RankMemory,
    StagePlan,
    data_parallel_memory,
    plan_stages,
    stage_table,
)
from .shard_frozen import fill_and_shard, frozen_units, hollow
from .stage import FlamingoStage, check_family
from .topology import Topology
from .wrap import training_dtype
from .zero import ZeroEngine

BuildOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class ParallelPlan:
    """A layout, complete and checked.

    Attributes:
        topology: of this rank.
        settings: of DeepSpeed.
        bounds: of the stages, see :func:`flamingo_ds.parallel.stage.prune`; one stage: all blocks.
        shard_frozen: shard a stage's frozen weights over its replicas.
        reshard_after_forward: see :func:`flamingo_ds.parallel.shard_frozen.fill_and_shard`.
        checkpoint_every: recompute every n-th block; 0 for none.
    """

    topology: Topology
    settings: DeepSpeedSettings
    bounds: tuple[int, ...]
    shard_frozen: bool = False
    reshard_after_forward: bool = True
    checkpoint_every: int = 0

    def __str__(self) -> str:
        """For people: logs, checkpoints, the dry run."""
        topology = self.topology
        if topology.stages == 1:
            return f"ZeRO-{self.settings.zero_stage} on {topology.world_size} ranks"
        sharded = ", frozen weights sharded" if self.shard_frozen else ""
        return f"pipeline of {topology.stages} stages x data {topology.data_ranks}, ZeRO-1{sharded}"


def plan_layout(
    model: FlamingoForConditionalGeneration,
    topology: Topology,
    settings: DeepSpeedSettings,
    batches: Batches,
    shard_frozen: bool,
    reshard_after_forward: bool,
    checkpoint_every: int,
) -> ParallelPlan:
    """Choose the stages' bounds and check that the model can be cut there.

    Args:
        model: whole, frozen by its table; may be on the meta device.
        batches: micro-batches of one replica in a step, by which the stages are balanced.
        topology, settings, shard_frozen, reshard_after_forward, checkpoint_every: see :class:`ParallelPlan`.

    Raises:
        ConfigError: a model that cannot have so many stages.
    """
    bounds: tuple[int, ...] = (0, model.config.text_config.num_hidden_layers)
    plan = ParallelPlan(topology, settings, bounds, shard_frozen, reshard_after_forward, checkpoint_every)
    if topology.stages == 1:
        return plan
    try:
        check_family(model.config.text_config)
        return replace(plan, bounds=_stages(model, plan, batches).bounds)
    except ValueError as error:
        raise ConfigError("parallel.pipeline_stages", topology.stages, f"what can be: {error}") from error


def describe_stages(model: FlamingoForConditionalGeneration, plan: ParallelPlan, batches: Batches) -> Table:
    """Blocks, parameters, share of the time and memory of a pipeline's stages; see :func:`plan_layout`."""
    return stage_table(_stages(model, plan, batches))


def count_memory(model: FlamingoForConditionalGeneration, plan: ParallelPlan, batches: Batches) -> RankMemory:
    """Bytes of a rank without pipeline stages; see :func:`plan_layout`."""
    layout = Layout(plan.settings.zero_stage, plan.topology.world_size, every=plan.checkpoint_every)
    costs = ModelCosts(model, training_dtype(plan.settings))
    return data_parallel_memory(costs, layout, batches, Buffers.of(plan.settings.content))


def _stages(model: FlamingoForConditionalGeneration, plan: ParallelPlan, batches: Batches) -> StagePlan:
    topology = plan.topology
    layout = Layout(
        1, topology.data_ranks, topology.stages, plan.shard_frozen, plan.reshard_after_forward, plan.checkpoint_every
    )
    costs = ModelCosts(model, training_dtype(plan.settings))
    return plan_stages(costs, layout, batches, Buffers.of(plan.settings.content))


def build_engine(
    skeleton: FlamingoForConditionalGeneration,
    read: ReadWeight,
    plan: ParallelPlan,
    build_optimizer: BuildOptimizer,
    doing: Doing,
) -> TrainEngine:
    """Lay a model out over the ranks of the process group. Collective.

    Args:
        skeleton: with its parameters on the meta device, frozen by its table; changed in place.
        read: initial weights by canonical name.
        plan: the layout.
        build_optimizer: over the trainable parameters of a module.
        doing: is told where a step is.
    """
    recompute_blocks(skeleton, plan.checkpoint_every)
    lay_out = _zero if plan.topology.stages == 1 else _pipeline
    return lay_out(skeleton, read, plan, build_optimizer, doing)


def _zero(
    model: FlamingoForConditionalGeneration,
    read: ReadWeight,
    plan: ParallelPlan,
    build_optimizer: BuildOptimizer,
    doing: Doing,
) -> TrainEngine:
    """(1) weights, sharded as they come under stage 3, (2) optimizer, (3) DeepSpeed."""
    assert dist.group.WORLD is not None
    filler = _filler(read, plan, dist.group.WORLD)
    if plan.settings.zero_stage == 3:
        _fill_sharded(model, filler, plan.settings)
    else:
        filler.fill(model, send=False)  # DeepSpeed sends the first rank's weights to all
    return ZeroEngine(model, build_optimizer(model), plan.settings, doing)


def _pipeline(
    model: FlamingoForConditionalGeneration,
    read: ReadWeight,
    plan: ParallelPlan,
    build_optimizer: BuildOptimizer,
    doing: Doing,
) -> TrainEngine:
    """(1) cut out the stage, (2) its weights, (3) optimizer, (4) DeepSpeed, (5) frozen weights, in shards."""
    topology = plan.topology
    stage = FlamingoStage(model, plan.bounds, topology.stage)
    group = _replicas_of_stage(topology)
    filler = _filler(lambda name: read(stage.canonical[name]), plan, group)
    units = frozen_units(stage.model) if plan.shard_frozen else {}
    were = hollow(units)
    filler.fill(stage.model, send=False)
    engine = PipelineEngine(stage, build_optimizer(stage.model), plan.settings, topology, doing)
    fill_and_shard(units, were, filler, group, plan.reshard_after_forward)
    return engine


def _filler(read: ReadWeight, plan: ParallelPlan, group: dist.ProcessGroup) -> Filler:
    accelerator = deepspeed.get_accelerator()
    device = accelerator.device_name() if accelerator.device_name() == "cpu" else accelerator.current_device_name()
    return Filler(read, training_dtype(plan.settings), device, group)


def _fill_sharded(model: nn.Module, filler: Filler, settings: DeepSpeedSettings) -> None:
    """ZeRO-3: each parameter is sharded when its weights have come, before the next one's do."""
    for name, slots in parameter_slots(model).items():
        parameter = hold(slots, filler.tensor(name, getattr(*slots[0])))
        # It sends the first rank's weights to all, then keeps this rank's part.
        deepspeed.zero.Init(module=nn.ParameterList([parameter]), config_dict_or_path=settings.content)


def _replicas_of_stage(topology: Topology) -> dist.ProcessGroup:
    """This rank's data-parallel group; every rank makes every group."""
    groups = [
        dist.new_group(list(range(stage * topology.data_ranks, (stage + 1) * topology.data_ranks)))
        for stage in range(topology.stages)
    ]
    own = groups[topology.stage]
    assert isinstance(own, dist.ProcessGroup)
    return own
