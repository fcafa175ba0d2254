"""From the command line to a submission folder, with an sbatch that is a script."""

import json
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from flamingo_ds.submission import snapshot
from flamingo_ds.submission.submit import main

SBATCH = """\
#!/bin/bash
case $1 in
  --test-only) echo "sbatch: Job 1 to start at noon" >&2 ;;
  --parsable) echo $(($(wc -l <{log}) + 17)) ; echo "$2" >>{log} ;;
esac
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose paths are there, and SLURM's commands."""
    (tmp_path / "backbone").mkdir()
    (tmp_path / "pairs-0.tar").touch()
    (tmp_path / "pairs-1.tar").touch()
    content = {
        "run_dir": str(tmp_path / "run"),
        "model": {
            "language_model": {"source": str(tmp_path / "backbone")},
            "vision_encoder": {"source": f"local-dir:{tmp_path / 'backbone'}"},
        },
        "data": {
            "datasets": {
                "pairs": {"format": "image_text", "shards": f"{tmp_path}/pairs-{{0..1}}.tar", "batch_size": 64},
                "far": {"format": "image_text", "shards": "pipe:cat nowhere", "batch_size": 32},
            }
        },
        "train": {"max_steps": 100},
    }
    path = tmp_path / "recipe.yaml"
    OmegaConf.save(OmegaConf.create(content), path)
    commands = tmp_path / "bin"
    commands.mkdir()
    (tmp_path / "submitted").touch()
    command(commands / "sbatch", SBATCH.format(log=tmp_path / "submitted"))
    command(commands / "squeue", "#!/bin/bash\n")
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return path


def command(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def submit(recipe: Path, *more: str) -> int:
    return main(["--recipe", str(recipe), "--nodes", "4", "--gpus-per-node", "8", *more])


def test_the_folder_is_complete_before_the_job_exists(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deepspeed = recipe.with_name("deepspeed.json")
    deepspeed.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    more = ("launch.partition=gpu", "train.max_steps=7", "--deepspeed_config", str(deepspeed))
    assert submit(recipe, *more) == 0
    run = recipe.with_name("run")
    (folder,) = (run / "submissions").iterdir()
    said = capsys.readouterr().out
    assert "Job 1 to start at noon" in said
    assert "job 17: run, 4 nodes x 8 ranks\n" in said
    assert f"touch {run}/stop" in said
    assert (run / "logs").is_dir()
    assert (folder / "jobs").read_text() == "17\n"
    assert OmegaConf.load(folder / "config.yaml").train.max_steps == 7
    assert OmegaConf.load(folder / "launch.yaml").partition == "gpu"
    assert (folder / "deepspeed.json").read_bytes() == deepspeed.read_bytes()
    for name in ("flamingo_ds/train.py", "flamingo_ds/submission/job.sh", "launchers/preflight.py", "REVISION"):
        assert (folder / "code" / name).is_file()
    assert not list(folder.rglob("__pycache__"))
    script = (folder / "train.sbatch").read_text()
    assert f"--recipe {folder}/config.yaml" in script
    assert f"--deepspeed_config {folder}/deepspeed.json" in script
    assert script.splitlines()[1].startswith("# python launchers/submit.py --recipe")
    assert recipe.with_name("submitted").read_text() == f"{folder}/train.sbatch\n"


def test_a_chain_is_submitted_link_by_link(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(recipe, "launch.chain=3") == 0
    assert "job 17 18 19: run" in capsys.readouterr().out


def test_a_dry_run_shows_the_file_and_leaves_nothing(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.with_name("bin").rename(recipe.with_name("no-slurm"))
    assert submit(recipe, "--dry-run") == 0
    assert "\n#SBATCH --nodes=4\n" in capsys.readouterr().out
    assert not recipe.with_name("run").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.datasets.pairs.batch_size=20"], "data.datasets.pairs.batch_size = 20: expected a multiple of the 32"),
        (["parallel.pipeline_stages=3"], "parallel.pipeline_stages = 3: expected a divisor of the 32 ranks"),
        (["data.datasets.pairs.shards=gone-*.tar"], "data.datasets.pairs.shards = 'gone-*.tar': expected a path"),
        (["model.language_model.source=./gone"], "model.language_model.source = './gone': expected a path"),
        (["model.vision_encoder.source=local-dir:gone"], "model.vision_encoder.source = 'gone': expected a path"),
        (["--deepspeed_config", "gone.json"], "--deepspeed_config = 'gone.json': expected the path of a JSON file"),
        (["launch.partion=gpu"], "launch.partion = 'gpu': expected a known key (command line)"),
        (["train.max_step=1"], "train.max_step = 1: expected a known key (command line)"),
        (["--launch", "gone.yaml"], "--launch = 'gone.yaml': expected the path of a YAML file"),
    ],
)
def test_mistakes_are_found_before_anything_is_made(
    recipe: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert submit(recipe, *more) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
    assert not recipe.with_name("run").exists()
    assert recipe.with_name("submitted").read_text() == ""


def test_what_slurm_refuses_is_not_submitted(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command(recipe.with_name("bin") / "sbatch", '#!/bin/bash\necho "allocation failure: no such nodes" >&2\nexit 1\n')
    assert submit(recipe) == 2
    assert "SLURM says: allocation failure: no such nodes" in capsys.readouterr().err
    assert not list(recipe.parent.glob("run/submissions/*"))


def test_without_slurm(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(recipe.with_name("nowhere")))
    assert submit(recipe) == 2
    assert "expected a machine with SLURM's commands" in capsys.readouterr().err


def test_two_jobs_in_one_folder_are_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(recipe) == 0
    command(recipe.with_name("bin") / "squeue", "#!/bin/bash\necho 17\n")
    assert submit(recipe) == 2
    assert "expected a folder of no other job; job 17 runs there, or waits" in capsys.readouterr().err
    command(recipe.with_name("bin") / "squeue", "#!/bin/bash\necho 16\n")
    assert submit(recipe) == 0
    assert len(list(recipe.parent.glob("run/submissions/*"))) == 2


@pytest.mark.parametrize("name", ["finished", "stop"])
def test_a_run_that_must_not_go_on(recipe: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    recipe.with_name("run").mkdir()
    (recipe.with_name("run") / name).touch()
    assert submit(recipe) == 2
    assert f"remove {recipe.with_name('run') / name}" in capsys.readouterr().err


def test_the_warning_must_be_longer_than_a_save(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = recipe.with_name("run") / "logs/16"
    logs.mkdir(parents=True)
    (logs / "n1-0.log").write_text("saved x/step-1 in 20.0 s; training stood still for 0.5 s\nsaved y in 171.5 s; t")
    assert submit(recipe, "launch.warning_s=39") == 2
    assert "launch.warning_s = 39: expected at least 40" in capsys.readouterr().err
    assert submit(recipe, "launch.warning_s=40") == 0


def test_a_snapshot_says_what_was_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "project"
    for folder in snapshot.FOLDERS:
        (root / folder).mkdir(parents=True)
        (root / folder / "a.py").write_text("one\n")
    monkeypatch.setattr(snapshot, "ROOT", root)
    assert snapshot.take_snapshot(tmp_path / "outside") == "unknown"
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    revision = snapshot.take_snapshot(tmp_path / "clean")
    assert len(revision) == 40
    assert (tmp_path / "clean/REVISION").read_text() == f"{revision}\n"
    (root / "flamingo_ds/a.py").write_text("two\n")
    assert snapshot.take_snapshot(tmp_path / "changed") == f"{revision}+changes"
    assert "+two" in (tmp_path / "changed/changes.patch").read_text()
