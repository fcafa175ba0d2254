"""The whole demo: each part is a command of its own, printed before it runs; their seconds go into the report."""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

RUN = Path("runs/demo")
PARTS = {
    "shards": "python tools/demo/make_shards.py runs/demo/shards",
    "backbones": "python tools/demo/train_backbones.py runs/demo/shards runs/demo/backbones",
    "training": "deepspeed --num_gpus {ranks} --module flamingo_ds.train --recipe demo "
    "--deepspeed_config ds_configs/zero3.json",
    "conversion": "python tools/convert_to_hf.py runs/demo/checkpoints/latest runs/demo/hf",
    "captions": "python tools/demo/caption.py runs/demo runs/demo/shards --split {split}",
}


def main() -> int:
    """Run all parts from the repository's root; the first that fails ends the demo with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="test", help="whose digits to caption; validation for trials")
    split = parser.parse_args().split
    shutil.rmtree(RUN, ignore_errors=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # Two ranks on two cores: more threads than that only get in each other's way.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TOKENIZERS_PARALLELISM": "false",
    }
    seconds: dict[str, float] = {}
    for number, (part, template) in enumerate(PARTS.items(), 1):
        command = template.format(ranks=ranks(), split=split)
        print(f"\n[{number}/{len(PARTS)}] {part}\n$ {command}", flush=True)
        began = time.monotonic()
        code = subprocess.run(shlex.split(command), env=environment, check=False).returncode
        seconds[part] = round(time.monotonic() - began, 1)
        if code:
            print(f"error: {part} ended with exit code {code}", file=sys.stderr)
            return code
    path = RUN / "report.json"
    report = json.loads(path.read_text(encoding="utf-8")) | {"seconds": seconds}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    parts = ", ".join(f"{part} {value:.0f}" for part, value in seconds.items())
    print(f"\ncaption accuracy {report['caption_accuracy']:.3f}, with blank images {report['blind_accuracy']:.3f}")
    print(f"seconds: {parts}; together {sum(seconds.values()):.0f}")
    print(f"look at {RUN}/report.json, {RUN}/captions.png, {RUN}/training.png")
    return 0


def ranks() -> int:
    """Two processes on CPU; where there are GPUs, one process a GPU, two at most."""
    import torch

    return min(torch.cuda.device_count(), 2) or 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
