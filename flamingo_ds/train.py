"""Train a Flamingo: ``python -m flamingo_ds.train --recipe NAME|FILE [key=value ...]``, alone or under a launcher."""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from .config import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    ConfigError,
    load_deepspeed_settings,
    load_recipe,
    plan_batches,
)
from .config.load import recipe_names

# A launcher ends all ranks when one fails. Rank 0 speaks first; another rank that alone found the error speaks then.
PATIENCE_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``--help``.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong configuration or input, 85 stopped on a signal with a checkpoint.
    """
    # Intermixed: keys may stand between and behind the options, in any order.
    options = _parser().parse_intermixed_args(arguments)
    if options.resume and "=" in options.resume and not Path(options.resume).exists():
        # ``--resume key=value``: no path was meant.
        options.overrides.insert(0, options.resume)
        options.resume = ""
    try:
        return _run(options)
    except ConfigError as error:
        _say_in_turn(f"error: {error}")
        return EXIT_BAD_INPUT
    except Exception:
        _say_in_turn(traceback.format_exc())
        return EXIT_FAILED


def _run(options: argparse.Namespace) -> int:
    # The recipe is checked before torch is imported: a typo is answered in a fraction of a second.
    config = load_recipe(options.recipe, options.overrides)
    plan_batches(config, replicas=1)
    from .parallel import Topology, Watchdog, connect_store, init_distributed, read_launch, shutdown
    from .training.dry_run import describe
    from .training.preemption import StopRequest
    from .training.prepare import RunPlan, prepare
    from .training.run_folder import LOGGER, RunFolder
    from .training.setup import build_trainer

    launch = read_launch(os.environ)
    topology = Topology(launch.rank, launch.world_size, config.parallel.pipeline_stages)
    settings = load_deepspeed_settings(options.deepspeed_config, config, topology.data_ranks)
    plan = RunPlan(config, settings, plan_batches(config, topology.data_ranks), topology, options.resume)
    prepared = prepare(plan)
    if options.dry_run:
        if launch.is_main:
            describe(plan, prepared)
        return EXIT_DONE
    RunFolder(Path(config.run_dir)).create()
    stop = StopRequest()
    stop.listen()
    init_distributed(launch, config.parallel.timeout_s)
    with Watchdog(
        launch.rank, launch.world_size, config.parallel.watchdog_s, LOGGER.info, connect_store(launch)
    ) as watchdog:
        trainer = build_trainer(plan, launch, prepared, stop, watchdog)
        del prepared  # and with it initial weights that had to be read whole
        code = trainer.train()
    shutdown()
    return code


def _parser() -> argparse.ArgumentParser:
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


def _say_in_turn(text: str) -> None:
    if int(os.environ.get("RANK") or 0) > 0:
        time.sleep(PATIENCE_SECONDS)
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
