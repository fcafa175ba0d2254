"""Evaluate a model few-shot: ``python -m flamingo_ds.evaluate MODEL --task NAME=PATH ... --shots 0,4 --json FILE``.

Alone or on many ranks, under the same launchers as training. An interrupted evaluation goes on with the same command.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from .errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_STOPPED, ConfigError
from .evaluation.named_tasks import load_tasks, split_label
from .evaluation.report import print_table, require_matplotlib, write_report
from .evaluation.results import Report
from .launching.signals import StopRequest
from .launching.turns import say_in_turn

# Ranks may have answers of very different length to wait for.
TIMEOUT_S = 24 * 3600.0
RETRIEVAL, FEATURES = "retrieval", "features"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see ``--help``.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong input, 85 stopped on a signal: the same command goes on.
    """
    stop = StopRequest()
    stop.hear_warning()
    try:
        return _run(_parser().parse_args(arguments), stop)
    except ConfigError as error:
        say_in_turn(f"error: {error}")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say_in_turn("interrupted before anything was asked")
        return EXIT_INTERRUPTED
    except Exception:
        say_in_turn(traceback.format_exc())
        return EXIT_FAILED


def _run(options: argparse.Namespace, stop: StopRequest) -> int:
    if options.out is not None:
        require_matplotlib()
    if any(split_label(label)[0] == RETRIEVAL for label in options.task):
        return _retrieve(options)
    # Tasks are read before torch is imported: a wrong path is answered at once.
    tasks = load_tasks(options.task, options.support_limit)
    from transformers.utils import logging

    from .evaluation.models import open_model
    from .evaluation.run import Evaluation, wait_for_all
    from .evaluation.settings import read_settings
    from .parallel import init_distributed, read_launch, shutdown

    logging.disable_progress_bar()
    launch = read_launch(os.environ)
    settings = read_settings(options, launch)
    source = open_model(options.model, options.trust_remote_code)
    evaluation = Evaluation(settings, tasks, source, launch)
    evaluation.prepare()
    if options.dry_run:
        return EXIT_DONE
    if launch.world_size > 1:
        init_distributed(launch, TIMEOUT_S)
    stop.listen()
    evaluation.answer(stop)
    if stop.requested:
        print(f"stopped on {stop.signal}; the same command goes on from here", flush=True)
        return EXIT_STOPPED
    wait_for_all(launch)
    if launch.is_main:
        _tell(evaluation.report(), options)
    if launch.world_size > 1:
        shutdown()
    return EXIT_DONE


def _retrieve(options: argparse.Namespace) -> int:
    """With a contrastive model, which answers nothing else."""
    paths = []
    for label in options.task:
        name, path = split_label(label)
        if name != RETRIEVAL:
            raise ConfigError("--task", label, f"{RETRIEVAL} alone: MODEL is a contrastive one of open_clip then")
        paths.append(path)
    from .evaluation.retrieval import run_retrieval
    from .parallel import init_distributed, read_launch, shutdown

    launch = read_launch(os.environ)
    if launch.world_size > 1:
        init_distributed(launch, TIMEOUT_S)
    features = options.features or options.json.parent / FEATURES
    results = [run_retrieval(options.model, path, launch, features, options.limit) for path in paths]
    if launch.is_main:
        _tell(Report(options.model, {"limit": options.limit}, results), options)
    if launch.world_size > 1:
        shutdown()
    return EXIT_DONE


def _tell(report: Report, options: argparse.Namespace) -> None:
    write_report(report, options.json, options.out)
    # A file or a pipe has no width of its own.
    print_table({options.model: report}, Console() if sys.stdout.isatty() else Console(width=120))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flamingo_ds.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="training checkpoint, exported folder, image-text model of transformers; for retrieval one of open_clip",
    )
    parser.add_argument("--task", action="append", required=True, metavar="NAME=PATH", help="may be given many times")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="results, with every prediction")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="table, plot and a page of samples")
    parser.add_argument("--shots", default="0,4,8,16,32", help="numbers of examples, such as 0,4,32")
    parser.add_argument("--select", choices=["random", "rices"], default="random", help="how examples are chosen")
    parser.add_argument("--ensemble", type=int, default=1, metavar="N", help="orders of the examples; the paper: 6")
    parser.add_argument("--seeds", default="0", help="of the choice of examples, such as 0,1,2")
    parser.add_argument(
        "--balanced",
        action=argparse.BooleanOptionalAction,
        help="as many examples of each class as of any; without it where a task has one list of options",
    )
    parser.add_argument("--support-limit", type=int, metavar="N", help="most support samples; without it the paper's")
    parser.add_argument("--limit", type=int, metavar="N", help="so many queries a task, drawn at random")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N prompts of each task and shots")
    parser.add_argument("--dry-run", action="store_true", help="read, check and show everything; answer nothing")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="prompts that are answered together")
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help="without it the model's own")
    parser.add_argument("--device", help="such as cpu or cuda; without it the rank's own GPU where there is one")
    parser.add_argument("--features", type=Path, metavar="FOLDER", help="of RICES; without it beside --json")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with a model of others")
    # The deepspeed and torch launchers may add this; the environment says the same.
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
