"""Everything about a run that can be wrong, found before a process group or a GPU is touched."""

from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging as transformers_logging

from ..checkpoint.initial_weights import InitialWeights, require_fit
from ..checkpoint.pretrained import TokenIds, build_processor, describe_model, skeleton
from ..checkpoint.same_model import require_same_model
from ..checkpoint.store import Checkpoint, find_checkpoint
from ..config import BatchPlan, ConfigError, DeepSpeedSettings, RunConfig, load_recipe, plan_probe
from ..config.schema import SampleFormat
from ..config.validate import checkpoint_interval
from ..data import MixtureOutline, Place, ProbeOutline, Tokens, build_mixture, build_probe, outline_probe
from ..data.image_transform import ImageTransform
from ..data.tokenizer_check import check_tokenizer
from ..model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ..model.freeze import FreezeReport
from ..model.processing import EOC_TOKEN
from ..parallel import Batches, BatchShape, ParallelPlan, Topology, plan_layout
from .run_folder import RunFolder


@dataclass(frozen=True)
class RunPlan:
    """A run as it was asked for: everything checked, nothing built.

    Attributes:
        config: the recipe.
        settings: of DeepSpeed.
        batches: arithmetic of each dataset.
        topology: this rank's place.
        resume: ``--resume``'s path, empty for the latest, None for a fresh start.
    """

    config: RunConfig
    settings: DeepSpeedSettings
    batches: list[BatchPlan]
    topology: Topology
    resume: str | None


@dataclass(frozen=True)
class Prepared:
    """What a run is built from.

    Attributes:
        processor: of the model.
        model: without memory, frozen by its table.
        freeze_report: what the table did.
        initial: the model's weights at the start, read when they are asked for.
        layout: over the ranks.
        mixture: of data, at its position.
        probe: validation data to measure on; none if nothing is to be measured.
        checkpoint: to go on from.
        notes: what the user may not have meant, a line each.
    """

    processor: FlamingoProcessor
    model: FlamingoForConditionalGeneration
    freeze_report: list[FreezeReport]
    initial: InitialWeights
    layout: ParallelPlan
    mixture: MixtureOutline
    probe: list[ProbeOutline]
    checkpoint: Checkpoint | None
    notes: list[str]


def prepare(plan: RunPlan) -> Prepared:
    """Read and check what the recipe names.

    Raises:
        ConfigError: what is wrong.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    run = RunFolder(Path(plan.config.run_dir))
    checkpoint = find_checkpoint(run.checkpoints, plan.resume)
    processor = build_processor(plan.config.model)
    config = describe_model(plan.config.model, TokenIds.of(processor))
    _check_lengths(plan.config, config)
    check_tokenizer(processor.tokenizer, processor.image_token, EOC_TOKEN)
    mixture = _mixture(plan, processor, run)
    probe = _probe(plan, processor, config)
    if checkpoint is not None:
        require_same_model(checkpoint.path, config)
        _go_on_with_data(mixture, checkpoint)
    model, report = skeleton(config, plan.config.model)
    if checkpoint is not None:
        shapes = {name: tensor.shape for name, tensor in checkpoint.weights().items()}
        require_fit(model, shapes, str(checkpoint.path))
    parallel = plan.config.parallel
    layout = plan_layout(
        model,
        plan.topology,
        plan.settings,
        batch_shapes(plan, processor),
        shard_frozen=parallel.shard_frozen,
        reshard_after_forward=parallel.reshard_after_forward,
        checkpoint_every=checkpoint_interval(parallel.activation_checkpointing),
    )
    initial = InitialWeights(model, plan.config.model, plan.config.seed)
    notes = [*_notes(plan.config, checkpoint), *mixture.notes(), *(note for part in probe for note in part.notes())]
    return Prepared(processor, model, report, initial, layout, mixture, probe, checkpoint, notes)


def batch_shapes(plan: RunPlan, processor: FlamingoProcessor) -> Batches:
    """A replica's micro-batches of a step, each as large as its dataset allows."""
    side = processor.image_size[0]
    shapes = []
    for batch in plan.batches:
        dataset = plan.config.data.datasets[batch.dataset]
        frames = dataset.frames if dataset.format is SampleFormat.video_text else 1
        shape = BatchShape(batch.micro_batch_size, dataset.max_tokens, dataset.max_images, side, frames)
        shapes.append((shape, batch.micro_steps))
    return shapes


def _check_lengths(recipe: RunConfig, model: FlamingoConfig) -> None:
    for key, datasets in (("data", recipe.data.datasets), ("probe", recipe.probe.datasets)):
        for name, dataset in datasets.items():
            if model.context_length is not None and dataset.max_tokens > model.context_length:
                raise ConfigError(
                    f"{key}.datasets.{name}.max_tokens",
                    dataset.max_tokens,
                    f"at most {model.context_length}, the language model's context",
                )


def _mixture(plan: RunPlan, processor: FlamingoProcessor, run: RunFolder) -> MixtureOutline:
    """The recipe's datasets, this replica's share of them; nothing to read for a pipeline's later stages."""
    if not plan.topology.is_first:
        weights = [dataset.weight for dataset in plan.config.data.datasets.values()]
        return MixtureOutline(plan.batches, weights)
    return build_mixture(plan.config, plan.batches, *_reading(plan, processor), run.bad_samples)


def _probe(plan: RunPlan, processor: FlamingoProcessor, model: FlamingoConfig) -> list[ProbeOutline]:
    """The same of the probe's datasets."""
    batches = plan_probe(plan.config, plan.topology.data_ranks)
    if not plan.topology.is_first:
        return outline_probe(plan.config, batches)
    probe = build_probe(plan.config, batches, *_reading(plan, processor))
    longest = max((part.longest for part in probe), default=0)
    if model.context_length is not None and longest > model.context_length:
        expected = f"at most {model.context_length} tokens, the language model's context; the longest has {longest}"
        raise ConfigError("probe.shots", plan.config.probe.shots, expected)
    return probe


def _reading(plan: RunPlan, processor: FlamingoProcessor) -> tuple[Tokens, ImageTransform, Place]:
    """What turns samples into sequences, and whose share of them."""
    return (
        Tokens(processor.tokenizer, processor.image_token_id, processor.eoc_token_id),
        ImageTransform.of(processor.image_processor, plan.config.model.vision_encoder.fit),
        Place(plan.topology.data_rank, plan.topology.data_ranks),
    )


def _go_on_with_data(mixture: MixtureOutline, checkpoint: Checkpoint) -> None:
    if not (states := checkpoint.data_states()):
        return  # converted from a model: no data has been read yet
    try:
        mixture.load_states([state["mixture"] for state in states], checkpoint.step)
    except KeyError as error:
        raise ConfigError(
            "data.datasets", str(error), f"the datasets that {checkpoint.path.name} was trained on"
        ) from error


def _notes(recipe: RunConfig, checkpoint: Checkpoint | None) -> list[str]:
    if checkpoint is None:
        return []
    notes = []
    saved = load_recipe(str(checkpoint.path / "recipe.yaml"))
    changed = ["seed"] if saved.seed != recipe.seed else []
    before, now = saved.data.datasets, recipe.data.datasets
    changed += [
        f"data.datasets.{name}.shuffle_buffer"
        for name in sorted(before.keys() & now.keys())
        if before[name].shuffle_buffer != now[name].shuffle_buffer
    ]
    if changed:
        notes.append(
            f"note: {', '.join(changed)} changed since {checkpoint.path.name}: in the epoch under way some samples may "
            "come twice or not at all"
        )
    if checkpoint.step > recipe.train.max_steps:
        notes.append(f"note: {checkpoint.path.name} is past train.max_steps = {recipe.train.max_steps}")
    return notes
