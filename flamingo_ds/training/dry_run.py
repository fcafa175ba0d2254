"""``--dry-run``: what would be trained, on what, how; nothing is built or written."""

from rich.console import Console
from rich.table import Table

from ..config import to_yaml
from ..model import FlamingoForConditionalGeneration, FlamingoProcessor
from ..model.flops import count_flops, total_flops
from ..parallel import count_memory, describe_stages
from .prepare import Prepared, RunPlan, batch_shapes


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
    recomputed = plan.config.parallel.activation_checkpointing
    console.print(f"layout: {prepared.layout}, activation checkpointing {recomputed}")
    if plan.topology.stages > 1:
        console.print(describe_stages(model, prepared.layout, batch_shapes(plan, prepared.processor)))
    else:
        memory = count_memory(model, prepared.layout, batch_shapes(plan, prepared.processor))
        resting, peak = memory.resting / 1e9, memory.total / 1e9
        console.print(f"memory of a rank, counted: {resting:.3f} GB between steps, at most {peak:.3f} GB")
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
