import os
from pathlib import Path

import pytest

from flamingo_ds.checkpoint.files import complete_or_absent, point_to, write_json


def write(folder, text="new"):
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text(text, encoding="utf-8")


@pytest.fixture
def old(tmp_path):
    """A complete folder from before."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "file").write_text("old", encoding="utf-8")
    return folder


def test_a_folder_is_there_when_it_is_complete(tmp_path):
    folder = tmp_path / "parents" / "made"
    with complete_or_absent(folder) as partial:
        write(partial)
        assert not folder.exists()
    assert (folder / "deep" / "file").read_text(encoding="utf-8") == "new"
    assert os.listdir(folder.parent) == ["made"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path, error):
    with pytest.raises(error), complete_or_absent(tmp_path / "made") as partial:
        write(partial)
        raise error
    assert os.listdir(tmp_path) == []


def test_an_error_leaves_the_old_folder(old):
    with pytest.raises(ValueError, match="stop"), complete_or_absent(old) as partial:
        write(partial)
        raise ValueError("stop")
    assert os.listdir(old.parent) == ["made"]
    assert (old / "file").read_text(encoding="utf-8") == "old"


def test_an_old_folder_is_replaced_as_a_whole(old):
    with complete_or_absent(old) as partial:
        write(partial)
    assert os.listdir(old.parent) == ["made"]
    assert os.listdir(old) == ["deep"]


def test_leftovers_of_a_killed_process_are_swept(old):
    for left in ("made.partial", "made.old"):
        (old.parent / left).mkdir()
        (old.parent / left / "junk").touch()
    with complete_or_absent(old) as partial:
        assert os.listdir(partial) == []
        write(partial)
    assert os.listdir(old.parent) == ["made"]


def test_an_error_in_the_last_rename_puts_the_old_folder_back(old, monkeypatch):
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".partial"):
            raise OSError("disk quota exceeded")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="quota"), complete_or_absent(old) as partial:
        write(partial)
    assert os.listdir(old.parent) == ["made"]
    assert (old / "file").read_text(encoding="utf-8") == "old"


def test_files_are_as_readable_as_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        with complete_or_absent(tmp_path / "made") as partial:
            write(partial)
            (partial / "deep" / "file").chmod(0o600)
        assert (tmp_path / "made" / "deep" / "file").stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_link_moves_in_one_step(tmp_path):
    link = tmp_path / "latest"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        point_to(link, name)
        assert os.readlink(link) == name
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "latest"]


def test_json_is_for_people_too(tmp_path):
    write_json(tmp_path / "a.json", {"step": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "step": 1\n}\n'
