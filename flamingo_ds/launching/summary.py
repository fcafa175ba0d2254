"""How a run went, on one page: ``python -m flamingo_ds.launching.summary RUN_DIR``.

Made from what ranks wrote down, the metrics and the preflights; it is printed and written to ``RUN_DIR/summary.txt``.
"""

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, EXIT_HALTED, EXIT_STOPPED
from .attempts import RankEnd, read_last, read_starts
from .run_files import RunFiles, replace_text
from .worst_rank import describe_worst

# Of the metrics only the end is read, however long they are.
TAIL_BYTES = 200_000
STEPS_OF_THROUGHPUT = 100
MOST_STARTS = 20
MEANINGS = {
    EXIT_DONE: "done",
    EXIT_FAILED: "failed",
    EXIT_BAD_INPUT: "wrong configuration",
    EXIT_STOPPED: "stopped on a signal",
    EXIT_HALTED: "stopped by the file stop",
    None: "no word",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write and print the page.

    Returns:
        0, or 2 where there is no such folder.
    """
    parser = argparse.ArgumentParser(prog="python -m flamingo_ds.launching.summary", description=__doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    files = RunFiles(parser.parse_args(arguments).run_dir)
    if not files.path.is_dir():
        print(f"error: run_dir = '{files.path}': expected the folder of a run", file=sys.stderr)
        return EXIT_BAD_INPUT
    text = summarise(files)
    replace_text(files.summary, text)
    print(text, end="")
    return EXIT_DONE


def summarise(files: RunFiles) -> str:
    """The page. What failed comes first, with its traceback."""
    starts, last = read_starts(files), read_last(files)
    lines = [f"run            {files.path}: {_state(files, last)}", *describe_worst(last)]
    lines += _metrics(files)
    if starts:
        lines += [f"restarts       {len(starts) - 1}", *_ranks(last), *_table(starts)]
    if bad := bad_nodes(files):
        lines.append("excluded       " + "; ".join(f"{node}: {reason}" for node, reason in bad.items()))
    if last:
        lines.append(f"logs           {files.logs / last[0].job if last[0].job else files.logs}")
    return "\n".join(lines) + "\n"


def bad_nodes(files: RunFiles) -> dict[str, str]:
    """Nodes that a preflight found bad, with the reason, over all jobs and starts."""
    bad: dict[str, str] = {}
    for path in sorted(files.logs.glob("*/preflight-*.json")):
        for attempt in json.loads(path.read_text(encoding="utf-8"))["attempts"]:
            bad |= attempt["bad"]
    return bad


def _state(files: RunFiles, last: Sequence[RankEnd]) -> str:
    if files.finished.exists():
        return "finished"
    codes = {end.code for end in last}
    for code in (EXIT_BAD_INPUT, EXIT_FAILED, EXIT_HALTED, EXIT_STOPPED):
        if code in codes:
            return MEANINGS[code]
    if any(end.failed for end in last):
        return MEANINGS[EXIT_FAILED]
    return "not finished" if last else "no rank has started"


def _metrics(files: RunFiles) -> list[str]:
    steps = _last_steps(files.path / "metrics.jsonl")
    if not steps:
        return []
    step, most = steps[-1]["step"], _max_steps(files.path / "config.yaml")
    done = f"{step} of {most} ({100 * step / most:.0f} %)" if most else str(step)
    loss = f", loss {steps[-1]['loss']:.4f}" if "loss" in steps[-1] else ""
    lines = [f"steps          {done}{loss}"]
    recent = steps[-STEPS_OF_THROUGHPUT:]
    rates = [
        f"{median(line[name] for line in recent):,.0f} {name.removesuffix('_per_s')}/s"
        for name in ("tokens_per_s", "images_per_s")
        if all(name in line for line in recent)
    ]
    if rates:
        lines.append(f"throughput     {', '.join(rates)} (median of the last {len(recent)} steps)")
    return lines


def _last_steps(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().split(b"\n")
    # The first line is cut where it is not the file's first; behind the last line end there is nothing, or half a line.
    whole = lines[1 if size > TAIL_BYTES else 0 : -1]
    return [json.loads(line) for line in whole]


def _max_steps(path: Path) -> int | None:
    found = (
        re.search(r"^ +max_steps: (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
    )
    return int(found[1]) if found else None


def _ranks(last: Sequence[RankEnd]) -> list[str]:
    codes = Counter(end.code for end in last)
    missing = last[0].ranks - len(last)
    parts = [f"{count} {MEANINGS.get(code, 'failed')}{_code(code)}" for code, count in codes.most_common()]
    parts += [f"{missing} never started"] if missing else []
    return [f"ranks          {last[0].ranks} on {_count(len({end.node for end in last}))}: {', '.join(parts)}"]


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def _code(code: int | None) -> str:
    return "" if code is None else f" ({code})"


def _table(starts: Sequence[RankEnd]) -> list[str]:
    lines = [f"start{'job':>8}{'began':>21}{'ran':>10}{'to step':>9}  how rank 0 ended"]
    if len(starts) > MOST_STARTS:
        lines.append(f"  ... {len(starts) - MOST_STARTS} earlier ones")
    for number, start in enumerate(starts, 1):
        if number <= len(starts) - MOST_STARTS:
            continue
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(start.began))
        ran = "?" if start.ended is None else _duration(start.ended - start.began)
        step = "?" if start.step is None else start.step
        how = MEANINGS.get(start.code, "failed") + _code(start.code) + (f", {start.signal}" if start.signal else "")
        lines.append(f"{number:>5}{start.job or '-':>8}{began:>21}{ran:>10}{step:>9}  {how}")
    return lines


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


if __name__ == "__main__":
    sys.exit(main())
