"""The batch file that a description becomes."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from flamingo_ds.errors import ConfigError
from flamingo_ds.submission.render import JobPlaces, render
from flamingo_ds.submission.sample import sample
from flamingo_ds.submission.schema import ContainerConfig, LaunchConfig, Preflight, Starter

ROOT = Path(__file__).parents[3]
PLACES = JobPlaces("/runs/mine", "/runs/mine/code", "/home/me")
LAUNCH = LaunchConfig(nodes=4, gpus_per_node=8, job_name="mine", python="/venv/bin/python")


def text_of(**changes: object) -> str:
    return render(replace(LAUNCH, **changes), {"--recipe": "a b.yaml"}, PLACES, "made by a test")  # type: ignore[arg-type]


def directives(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def head_values(text: str, *names: str) -> list[str]:
    """What bash makes of the variables above the line."""
    head = text.partition("# -----")[0]
    words = " ".join(f'"${{{name}[@]}}"' for name in names)
    done = subprocess.run(
        ["bash", "-c", f"module() {{ echo module $*; }}\n{head}\nprintf '%s\\n' {words}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_plain_file_is_the_rendered_one() -> None:
    plain = (ROOT / "launchers/train.sbatch").read_text(encoding="utf-8")
    assert plain == sample(), "python -m flamingo_ds.submission.sample > launchers/train.sbatch"


def test_directives() -> None:
    assert directives(text_of()) == [
        "--job-name=mine",
        "--nodes=4",
        "--ntasks-per-node=8",
        "--gpus-per-node=8",
        "--time=24:00:00",
        "--chdir=/home/me",
        "--output=/runs/mine/logs/%j.log",
        "--open-mode=append",
        "--signal=B:USR1@300",
        "--requeue",
    ]


def test_directives_stand_before_the_first_command() -> None:
    """SLURM reads none behind it."""
    before = text_of(sbatch=["--mail-type=END"]).partition("\nset ")[0]
    assert directives(before)[-1] == "--mail-type=END"


def test_all_that_a_cluster_may_want() -> None:
    said = directives(
        text_of(
            partition="gpu",
            account="vision",
            qos="high",
            constraint="a100&ib",
            reservation="maintenance",
            nodelist="n[1-4]",
            exclude="n7",
            memory="0",
            cpus_per_rank=12,
            exclusive=True,
            sbatch=["--comment=mine"],
        )
    )
    wanted = [
        "--partition=gpu",
        "--account=vision",
        "--qos=high",
        '--constraint="a100&ib"',
        "--reservation=maintenance",
    ]
    wanted += ["--nodelist=n[1-4]", "--exclude=n7", "--mem=0", "--cpus-per-task=12", "--exclusive", "--comment=mine"]
    assert set(wanted) <= set(said)


def test_without_gpus() -> None:
    text = text_of(gpus_per_node=0, ranks_per_node=2)
    assert "--ntasks-per-node=2" in directives(text)
    assert "gpus-per-node" not in text.partition("# -----")[0]


def test_a_chain_does_not_queue_again() -> None:
    text = text_of(chain=3)
    assert {"--no-requeue", "--dependency=singleton"} <= set(directives(text))
    assert head_values(text, "REQUEUE") == ["0"]
    assert head_values(text_of(), "REQUEUE") == ["1"]


def test_variables_are_what_was_said() -> None:
    text = text_of(environment={"NCCL_DEBUG": "a 'b' $c"}, max_restarts=7, max_exclusions=5)
    found = head_values(text, "RUN_DIR", "CODE", "PYTHON", "NCCL_DEBUG", "MAX_RESTARTS", "MAX_EXCLUSIONS")
    assert found == ["/runs/mine", "/runs/mine/code", "/venv/bin/python", "a 'b' $c", "7", "5"]


def test_commands() -> None:
    container = ContainerConfig("image.sqsh", ["/data:/data", "/runs:/runs"], ["--no-container-mount-home"])
    text = text_of(container=container, srun=["--mpi=pmix"], wait_s=9)
    assert head_values(text, "SRUN") == [
        "--kill-on-bad-exit=1",
        "--wait=9",
        "--container-image=image.sqsh",
        "--container-mounts=/data:/data,/runs:/runs",
        "--no-container-mount-home",
        "--mpi=pmix",
    ]
    assert head_values(text, "HELPER") == [
        *("srun", "--nodes=1", "--ntasks=1", "--container-image=image.sqsh"),
        *("--container-mounts=/data:/data,/runs:/runs", "--no-container-mount-home", "/venv/bin/python"),
    ]
    assert head_values(text_of(), "HELPER") == ["/venv/bin/python"]
    training = ["-m", "flamingo_ds.train", "--resume", "--recipe", "a b.yaml"]
    assert head_values(text, "TRAIN") == ["/venv/bin/python", *training]


@pytest.mark.parametrize("starter", [Starter.torchrun, Starter.deepspeed])
def test_agents_are_a_task_a_node(starter: Starter) -> None:
    text = "SLURM_JOB_NUM_NODES=4\n" + text_of(starter=starter, cpus_per_rank=3)
    assert head_values(text, "TASKS") == ["--ntasks=4", "--ntasks-per-node=1", "--cpus-per-task=24"]
    assert head_values(text, "RANKS_PER_NODE") == ["8"]
    assert head_values(text, "TRAIN")[:2] == ["/runs/mine/code/launchers/agent.sh", starter]


def test_modules_are_loaded_first() -> None:
    assert head_values(text_of(modules=["cuda/12.4", "gcc"]), "PYTHON")[0] == "module load cuda/12.4 gcc"


@pytest.mark.parametrize(
    ("preflight", "options"),
    [
        (Preflight.full, ["--time-limit", "300", "--gpus-per-node", "8"]),
        (Preflight.quick, ["--time-limit", "300", "--gpus-per-node", "8", "--without-collectives"]),
        (Preflight.none, []),
    ],
)
def test_preflight(preflight: Preflight, options: list[str]) -> None:
    assert [word for word in head_values(text_of(preflight=preflight), "PREFLIGHT") if word] == options


def test_the_script_is_valid_bash() -> None:
    subprocess.run(["bash", "-n"], input=text_of(modules=["a"], environment={"A": "b"}), text=True, check=True)


@pytest.mark.parametrize("path", ["/runs/100%", '/runs/"mine"', "/runs/a\nb"])
def test_paths_that_slurm_reads_otherwise(path: str) -> None:
    with pytest.raises(ConfigError, match="a path without %"):
        render(LAUNCH, {}, JobPlaces(path, "/code", None), "made by a test")
