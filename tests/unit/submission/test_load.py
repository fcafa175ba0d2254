"""Reading and checking a launch description."""

from dataclasses import fields
from pathlib import Path

import pytest

from flamingo_ds.errors import ConfigError
from flamingo_ds.submission.load import launch_yaml, load_launch
from flamingo_ds.submission.schema import LaunchConfig

COUNTS = ("launch.nodes=2", "launch.gpus_per_node=8")


def test_file_and_command_line(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("partition: gpu\nmodules: [cuda/12]\nenvironment: {NCCL_DEBUG: WARN}\nnodes: 1\n")
    more = ("launch.environment.A=1", "launch.time=1:30:00", "launch.container.image=i.sqsh")
    launch = load_launch(str(file), [*COUNTS, *more])
    assert (launch.partition, launch.modules, launch.nodes, launch.time) == ("gpu", ["cuda/12"], 2, "1:30:00")
    assert launch.environment == {"NCCL_DEBUG": "WARN", "A": "1"}
    assert launch.container.image == "i.sqsh"
    assert (launch.ranks_on_node, launch.world_size, launch.requeues) == (8, 16, True)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    launch = load_launch(None, [*COUNTS, "launch.memory=0", "launch.time=30", "launch.srun=[--mpi=pmix]"])
    file = tmp_path / "launch.yaml"
    file.write_text(launch_yaml(launch))
    assert load_launch(str(file)) == launch


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("launch.nodess=2", "launch.nodess = 2: expected a known key (command line); did you mean launch.nodes?"),
        ("launch.nodes=two", "launch.nodes = 'two': expected an integer (command line)"),
        ("launch.nodes=0", "launch.nodes = 0: expected an integer of at least 1"),
        ("launch.max_restarts=-1", "launch.max_restarts = -1: expected an integer of at least 0"),
        ("launch.gpus_per_node=0", "launch.ranks_per_node = None: expected at least 1 where gpus_per_node is 0"),
        ("launch.ranks_per_node=3", "launch.ranks_per_node = 3: expected 8, a rank a GPU"),
        ("launch.time=tomorrow", "launch.time = 'tomorrow': expected a time as SLURM writes it"),
        ("launch.starter=mpirun", "launch.starter = 'mpirun': expected one of: srun, torchrun, deepspeed"),
        ("launch.environment.A-B=1", "launch.environment = 'A-B': expected names of variables"),
        ("launch.sbatch=[--gpus=4]", "launch.sbatch = '--gpus=4': expected launch.gpus_per_node instead"),
        ("launch.srun=[pmix]", "launch.srun = 'pmix': expected options that begin with -"),
        ("launch.partition", "override = 'launch.partition': expected launch.key=value"),
    ],
)
def test_mistakes(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_launch(None, [*COUNTS, override])
    assert str(caught.value).startswith(said)


def test_counts_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"launch.gpus_per_node = None: expected a value: --gpus-per-node N"):
        load_launch(None, [])


@pytest.mark.parametrize(
    ("content", "said"),
    [("- a", "a YAML mapping"), ("a: [", "valid YAML"), ("nodes: many", "an integer"), (None, "there is no such file")],
)
def test_files_that_are_none(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "cluster.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_launch(str(file))


def test_every_key_is_explained() -> None:
    text = (Path(__file__).parents[3] / "docs/slurm.md").read_text(encoding="utf-8")
    for field in fields(LaunchConfig):
        assert f"`{field.name}`" in text or f"`{field.name}." in text, field.name
