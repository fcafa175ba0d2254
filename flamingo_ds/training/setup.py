"""From a checked recipe to a trainer: a list of things built."""

from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging as transformers_logging

from ..checkpoint.export import TRAINING_DTYPES, load_trainable
from ..checkpoint.fingerprint import fingerprint, require_same_base
from ..checkpoint.pretrained import TokenIds, build_model, build_processor, cast_parameters, describe_model
from ..checkpoint.store import Checkpoint, SaveInput, find_checkpoint
from ..config import BatchPlan, ConfigError, DeepSpeedSettings, RunConfig
from ..config.validate import checkpoint_interval
from ..data import Mixture, MixtureOutline, SequenceRules, ShardDataset
from ..model import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from ..model.decoder_blocks import decoder_blocks
from ..parallel import Launch, TrainEngine, ZeroEngine, apply_activation_checkpointing
from .optimizer import build_optimizer
from .preemption import StopRequest
from .run_folder import LOGGER, RunFolder
from .trainer import Trainer


@dataclass(frozen=True)
class RunPlan:
    """A run as it was asked for: everything checked, nothing built.

    Attributes:
        config: the recipe.
        settings: of DeepSpeed.
        batches: arithmetic of each dataset.
        resume: ``--resume``'s path, empty for the latest, None for a fresh start.
    """

    config: RunConfig
    settings: DeepSpeedSettings
    batches: list[BatchPlan]
    resume: str | None

    def layout(self, launch: Launch) -> str:
        """The layout in words, for people: logs, checkpoints, the dry run."""
        return f"ZeRO-{self.settings.zero_stage} on {launch.world_size} ranks"


def prepare(plan: RunPlan, launch: Launch) -> tuple[FlamingoProcessor, FlamingoConfig, Mixture, Checkpoint | None]:
    """Everything that can be wrong is found here, before a process group or a GPU is touched.

    Raises:
        ConfigError: what it is.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    run = RunFolder(Path(plan.config.run_dir))
    checkpoint = find_checkpoint(run.checkpoints, plan.resume)
    processor = build_processor(plan.config.model)
    model_config = describe_model(plan.config.model, TokenIds.of(processor))
    for name, dataset in plan.config.data.datasets.items():
        if model_config.context_length is not None and dataset.max_tokens > model_config.context_length:
            raise ConfigError(
                f"data.datasets.{name}.max_tokens",
                dataset.max_tokens,
                f"at most {model_config.context_length}, the language model's context",
            )
    mixture = build_mixture(plan, launch, processor, run)
    if checkpoint is not None:
        _go_on_with_data(mixture, checkpoint)
    return processor, model_config, mixture, checkpoint


def build_mixture(plan: RunPlan, launch: Launch, processor: FlamingoProcessor, run: RunFolder) -> Mixture:
    """The recipe's datasets, this rank's share of them."""
    datasets = [
        ShardDataset(
            name,
            dataset,
            SequenceRules(
                processor.tokenizer,
                processor.transform,
                processor.image_token_id,
                processor.eoc_token_id,
                dataset.max_tokens,
                dataset.max_images,
            ),
            launch.rank,
            launch.world_size,
            plan.config.seed,
            plan.config.data.max_bad_share,
            run.bad_samples,
        )
        for name, dataset in plan.config.data.datasets.items()
    ]
    weights = [dataset.weight for dataset in plan.config.data.datasets.values()]
    return Mixture(datasets, plan.batches, weights, (3, *processor.image_size))


def build_trainer(
    plan: RunPlan,
    launch: Launch,
    prepared: tuple[FlamingoProcessor, FlamingoConfig, Mixture, Checkpoint | None],
    stop: StopRequest,
) -> Trainer:
    """Model, layout, optimizer and trainer; the process group exists."""
    processor, model_config, mixture, checkpoint = prepared
    run = RunFolder(Path(plan.config.run_dir))
    if launch.is_main:
        run.describe(plan.config, plan.settings, launch.world_size)
    model = build_model(model_config, plan.config.model, plan.config.seed)
    base = fingerprint(model, plan.config.model)
    if checkpoint is not None:
        require_same_base(checkpoint.about["base"], base, str(checkpoint.path))
        load_trainable(model, checkpoint)
    engine = build_engine(model, plan)
    if checkpoint is not None:
        engine.load_full_state(checkpoint.state(), checkpoint.step)
        if launch.rank < checkpoint.about["ranks"]:  # a rank more than there were starts from the seed
            checkpoint.restore_random_states(launch.rank)
    layout = plan.layout(launch)
    content = SaveInput(
        checkpoint.step if checkpoint else 0, plan.config, model_config, processor, base.to_json(), layout
    )
    run.log_to_file(launch.rank)
    LOGGER.info("%s; starting behind step %d of %d", layout, content.step, plan.config.train.max_steps)
    return Trainer(content, engine, mixture, run, stop, launch.is_main)


def build_engine(model: FlamingoForConditionalGeneration, plan: RunPlan) -> TrainEngine:
    """Lay a finished model out over ranks. Order matters: (1) precision, (2) activation checkpointing, (3) ZeRO."""
    cast_parameters(model, TRAINING_DTYPES[plan.config.train.precision])
    every = checkpoint_interval(plan.config.parallel.activation_checkpointing)
    for blocks in (
        decoder_blocks(model.language_model),
        model.gated_cross_attention.values(),
        model.resampler.blocks,
    ):
        apply_activation_checkpointing(blocks, every)
    return ZeroEngine(model, build_optimizer(model, plan.config.train.optimizer), plan.settings)


def _go_on_with_data(mixture: MixtureOutline, checkpoint: Checkpoint) -> None:
    try:
        mixture.load_states([state["mixture"] for state in checkpoint.data_states()])
    except KeyError as error:
        raise ConfigError(
            "data.datasets", str(error), f"the datasets that {checkpoint.path.name} was trained on"
        ) from error
