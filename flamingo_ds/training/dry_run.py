"""``--dry-run``: what would be trained, on what, how; nothing is built or written."""

from rich.console import Console
from rich.table import Table

from ..config import to_yaml
from ..model import FlamingoForConditionalGeneration, FlamingoProcessor
from ..model.flops import count_flops, total_flops
from ..parallel import describe_stages
from .prepare import Prepared, RunPlan, batch_shapes

# Bytes a parameter: bf16 or fp32 weights, fp32 master and two moments, gradients in the weights' precision.
MASTER_AND_MOMENTS = 12


def describe(plan: RunPlan, prepared: Prepared) -> None:
    """Print the resolved recipe, the parameter table, the batch arithmetic and the memory of each rank's weights."""
    model, report, checkpoint = prepared.model, prepared.freeze_report, prepared.checkpoint
    console = Console(width=120)
    console.print(to_yaml(plan.config), highlight=False, markup=False)
    table = Table("parameters", "trainable", "frozen", title="freeze table")
    for row in report:
        table.add_row(row.pattern, f"{row.trainable:,}", f"{row.frozen:,}")
    trainable, frozen = sum(row.trainable for row in report), sum(row.frozen for row in report)
    table.add_row("all", f"{trainable:,}", f"{frozen:,}", style="bold")
    console.print(table)
    batches = Table("dataset", "batch", "= replicas", "x micro-batch", "x micro-steps", "weight", title="one step")
    for batch in plan.batches:
        weight = plan.config.data.datasets[batch.dataset].weight
        batches.add_row(
            batch.dataset,
            *map(str, (batch.batch_size, plan.topology.data_ranks, batch.micro_batch_size, batch.micro_steps, weight)),
        )
    console.print(batches)
    stage, ranks = plan.settings.zero_stage, plan.topology.world_size
    recomputed = plan.config.parallel.activation_checkpointing
    console.print(f"layout: {prepared.layout}, activation checkpointing {recomputed}")
    if plan.topology.stages > 1:
        console.print(describe_stages(model, prepared.layout, batch_shapes(plan, prepared.processor)))
    else:
        gigabytes = _weights_bytes(trainable, frozen, stage, ranks, plan.settings.content["bf16"]["enabled"]) / 1e9
        console.print(
            f"weights, gradients and optimizer of a rank, by arithmetic: {gigabytes:.3f} GB, activations apart"
        )
    console.print(
        f"a step takes at most {_step_flops(plan, model, prepared.processor):.3g} FLOPs by formula, recomputing apart"
    )
    for note in prepared.notes:
        console.print(note, highlight=False, soft_wrap=True)
    start = f"behind step {checkpoint.step} of {checkpoint.path.name}" if checkpoint else "afresh"
    console.print(f"starts {start}, ends at step {plan.config.train.max_steps}")


def _step_flops(plan: RunPlan, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> float:
    """Forward and backward over every dataset's batch, as if all sequences were of full length with all images."""
    total = 0.0
    for dataset in plan.config.data.datasets.values():
        parts = count_flops(model, dataset.max_tokens, image_size=processor.image_size[0])
        sequence = total_flops(parts, dataset.max_tokens, dataset.max_images)
        total += dataset.batch_size * (sequence.forward + sequence.backward)
    return total


def _weights_bytes(trainable: int, frozen: int, stage: int, ranks: int, bf16: bool) -> float:
    """Stage 1 shards masters and moments, stage 2 gradients too, stage 3 all weights."""
    width = 2 if bf16 else 4
    weights = width * (trainable + frozen) / (ranks if stage == 3 else 1)
    gradients = width * trainable / (ranks if stage >= 2 else 1)
    return weights + gradients + MASTER_AND_MOMENTS * trainable / (ranks if stage >= 1 else 1)
