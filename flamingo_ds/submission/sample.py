"""``launchers/train.sbatch``, for those who edit by hand: ``python -m flamingo_ds.submission.sample`` prints it."""

from .render import JobPlaces, render
from .schema import LaunchConfig

MADE_BY = """\
What launchers/submit.py makes, as a plain file: edit what stands above the line, then, from the project's folder,
#   mkdir -p runs/demo/logs && sbatch launchers/train.sbatch
# SLURM ends a job without a word where the folder of --output is missing. Unlike submit.py this takes no snapshot of
# the code: an edit while the job waits, or between two of its starts, changes what runs.
#"""


def sample() -> str:
    """Two nodes of eight GPUs on the demo."""
    launch = LaunchConfig(nodes=2, gpus_per_node=8, job_name="demo", python=".venv/bin/python")
    training = {"--recipe": "demo", "--deepspeed_config": "ds_configs/zero3.json"}
    return render(launch, training, JobPlaces(run_dir="runs/demo", code=".", folder=None), MADE_BY)


if __name__ == "__main__":
    print(sample(), end="")
