"""Train a Flamingo: ``python -m flamingo_ds.train --recipe NAME|FILE [key=value ...]``, alone or under a launcher."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

# Nothing that takes long: from its first moments on a rank must hear the scheduler's warning.
from .errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_HALTED, EXIT_INTERRUPTED, ConfigError
from .launching.exit_record import ExitRecord
from .launching.rank_source import read_launch
from .launching.run_files import Halted, Job, RunFiles
from .launching.signals import StopRequest, ignore_signals
from .launching.turns import say_in_turn


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``--help``.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong configuration or input, 85 stopped on a signal with a checkpoint, 86
        stopped for good by ``RUN_DIR/stop``.
    """
    stop, record = StopRequest(), ExitRecord()
    stop.hear_warning()
    code, error = _attempt(arguments, stop, record)
    record.end(code, stop.signal, error)  # before it is said, for which a rank may have to wait its turn
    if error is not None:
        say_in_turn(error)
    return code


def _attempt(arguments: Sequence[str] | None, stop: StopRequest, record: ExitRecord) -> tuple[int, str | None]:
    """The exit code, and what there is to say."""
    try:
        return _run(_read_options(arguments), stop, record), None
    except Halted as error:
        return EXIT_HALTED, f"error: {error}"
    except ConfigError as error:
        return EXIT_BAD_INPUT, f"error: {error}"
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED, "interrupted before training began"
    except Exception:
        return EXIT_FAILED, traceback.format_exc()


def _run(options: argparse.Namespace, stop: StopRequest, record: ExitRecord) -> int:
    from .config import load_deepspeed_settings, load_recipe, plan_batches

    # The recipe is checked before torch is imported: a typo is answered in a fraction of a second.
    config = load_recipe(options.recipe, options.overrides)
    plan_batches(config, replicas=1)
    launch = read_launch(os.environ)
    if not options.dry_run:
        RunFiles(Path(config.run_dir)).require_may_run()
        record.begin(config.run_dir, launch, os.environ)
    from .parallel import Topology, Watchdog, connect_store, init_distributed, shutdown
    from .training.dry_run import describe
    from .training.ends import Ends, naming_absent
    from .training.prepare import RunPlan, prepare
    from .training.run_folder import LOGGER, RunFolder
    from .training.setup import build_trainer

    topology = Topology(launch.rank, launch.world_size, config.parallel.pipeline_stages)
    settings = load_deepspeed_settings(options.deepspeed_config, config, topology.data_ranks)
    plan = RunPlan(config, settings, plan_batches(config, topology.data_ranks), topology, options.resume)
    prepared = prepare(plan)
    if options.dry_run:
        if launch.is_main:
            describe(plan, prepared)
        return EXIT_DONE
    run = RunFolder(Path(config.run_dir))
    run.create()
    record.begin(config.run_dir, launch, os.environ)
    ends = Ends(stop, record, run.files.logs)
    with naming_absent(run.files, launch):
        init_distributed(launch, config.parallel.timeout_s)
    with Watchdog(
        launch.rank,
        launch.world_size,
        config.parallel.watchdog_s,
        LOGGER.info,
        connect_store(launch),
        timeout_s=config.parallel.timeout_s,
        node=Job.of(os.environ).node,
    ) as watchdog:
        with ends.explained(watchdog):
            trainer = build_trainer(plan, launch, prepared, ends, watchdog)
        del prepared  # and with it initial weights that had to be read whole
        stop.listen()
        code = trainer.train()
    record.end(code, stop.signal)  # a launcher may end all ranks as soon as one has ended
    shutdown()
    return code


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    # Intermixed: keys may stand between and behind the options, in any order.
    options = _parser().parse_intermixed_args(arguments)
    if options.resume and "=" in options.resume and not Path(options.resume).exists():
        # ``--resume key=value``: no path was meant.
        options.overrides.insert(0, options.resume)
        options.resume = ""
    return options


def _parser() -> argparse.ArgumentParser:
    from .config.load import recipe_names

    parser = argparse.ArgumentParser(prog="python -m flamingo_ds.train", description=__doc__, allow_abbrev=False)
    parser.add_argument("--recipe", required=True, help=f"a YAML file or one of: {', '.join(recipe_names())}")
    parser.add_argument("--deepspeed_config", metavar="FILE", help="DeepSpeed JSON; without it ZeRO stage 1")
    parser.add_argument("--dry-run", action="store_true", help="show configuration, parameters and plan; train nothing")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="PATH",
        help="go on from a checkpoint; without PATH from the latest of run_dir, or afresh if there is none",
    )
    # The deepspeed and torch launchers may add this; the environment says the same.
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys, dotted")
    return parser


if __name__ == "__main__":
    exit_code = main()
    ignore_signals()  # a launcher repeats them, and the exit code is said
    sys.exit(exit_code)
