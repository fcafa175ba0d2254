"""From what was prepared to a trainer: a list of things built."""

import os
from functools import partial
from pathlib import Path

from ..checkpoint.fingerprint import fingerprint, frozen_names, require_same_base
from ..checkpoint.initial_weights import trained_over
from ..checkpoint.publish import SaveInput
from ..checkpoint.random_states import start_random_states
from ..checkpoint.retention import Retention
from ..checkpoint.saver import CheckpointSaver
from ..launching.run_files import Job
from ..parallel import Launch, ReadWeight, Watchdog, build_engine
from .ends import Ends
from .optimizer import build_optimizer
from .prepare import Prepared, RunPlan
from .probe import Probe
from .run_folder import LOGGER, RunFolder
from .trainer import Trainer


def build_trainer(plan: RunPlan, launch: Launch, prepared: Prepared, ends: Ends, watchdog: Watchdog) -> Trainer:
    """Weights, layout, optimizer and trainer; the process group exists."""
    recipe, checkpoint, model_config = plan.config, prepared.checkpoint, prepared.model.config
    step = checkpoint.step if checkpoint else 0
    watchdog.at(step, "building the model")
    run = RunFolder(Path(recipe.run_dir))
    run.log_to_file(launch.rank, Job.of(os.environ))
    start_random_states(recipe.seed, launch.rank)
    for note in prepared.notes:
        LOGGER.warning(note)
        if launch.is_main:
            print(note, flush=True)
    base = fingerprint(frozen_names(prepared.model), prepared.initial.stored, recipe.model)
    read: ReadWeight = prepared.initial.read
    if checkpoint is not None:
        require_same_base(checkpoint.about.get("base"), base, str(checkpoint.path))
        read = trained_over(read, checkpoint.weights())
    optimizer = partial(build_optimizer, config=recipe.train.optimizer, fused=plan.settings.optimizer_on_cpu)
    if launch.is_main:  # not before: a refused start leaves what is written of the starts before it
        run.describe(recipe, plan.settings, launch)
    engine = build_engine(prepared.model, read, prepared.layout, optimizer, watchdog.doing)
    if checkpoint is not None:
        engine.load_full_state(checkpoint.state(), checkpoint.step)
        if not checkpoint.restore_random_states(launch.rank, launch.world_size):
            LOGGER.info("random states are not restored: %s is of %d ranks", checkpoint.path.name, checkpoint.ranks)
    content = SaveInput(step, recipe, model_config, prepared.processor, base.to_json(), str(prepared.layout))
    saver = CheckpointSaver(
        run.checkpoints,
        Retention(recipe.train.keep_last, recipe.train.keep_every),
        recipe.train.save_in_background,
        plan.topology.data_rank if plan.topology.is_first else None,
    )
    probe = Probe(recipe.probe.every, prepared.probe, engine, watchdog.doing)
    LOGGER.info("%s; starting behind step %d of %d", prepared.layout, step, recipe.train.max_steps)
    return Trainer(content, engine, prepared.mixture, probe, run, ends, saver, watchdog, launch.is_main)
