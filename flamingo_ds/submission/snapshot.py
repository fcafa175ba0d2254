"""The code that a job runs, copied at submission: an edit between two starts of a job changes nothing."""

import shutil
import subprocess
from pathlib import Path

FOLDERS = ("flamingo_ds", "launchers")
ROOT = Path(__file__).parents[2]


def take_snapshot(target: Path) -> str:
    """Copy the package and its launchers, with ``REVISION`` and, of what was not committed, ``changes.patch``.

    Returns:
        The revision in words: a commit, with ``+changes`` where files differ from it; ``unknown`` outside of git.
    """
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    revision = _git("rev-parse", "HEAD").strip()
    if revision and _git("status", "--porcelain", "--", *FOLDERS):
        (target / "changes.patch").write_text(_git("diff", "HEAD", "--", *FOLDERS), encoding="utf-8")
        revision += "+changes"
    (target / "REVISION").write_text((revision or "unknown") + "\n", encoding="utf-8")
    return revision or "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
