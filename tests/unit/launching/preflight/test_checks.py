from importlib.metadata import version
from pathlib import Path

from flamingo_ds.launching.preflight.checks import REHEARSAL_VARIABLE, gpus_on_bus, look


def test_a_fit_node(tmp_path):
    report = look(tmp_path / "new", 3, "n2", 0.001, {})
    assert (report.rank, report.node, report.problem, report.torch) == (3, "n2", "", version("torch"))
    assert report.free_gb > 0
    assert list((tmp_path / "new").iterdir()) == []


def test_a_full_disk(tmp_path):
    assert look(tmp_path, 0, "n1", 1e9, {}).problem.endswith(f" GB free in {tmp_path}, less than 1e+09")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    assert look(tmp_path / "file" / "run", 0, "n1", 1.0, {}).problem == (
        f"cannot write to {tmp_path}/file/run: Not a directory"
    )


def test_a_folder_that_cannot_be_written_to():
    """/proc takes no new files, from root neither."""
    assert look(Path("/proc/self/fdinfo"), 0, "n1", 0.0, {}).problem.startswith("cannot write to /proc/self/fdinfo: ")


def test_a_rehearsal_is_of_one_node(tmp_path):
    environ = {REHEARSAL_VARIABLE: "n2"}
    assert look(tmp_path, 0, "n2", 0.001, environ).problem == "a rehearsal: FLAMINGO_PREFLIGHT_BAD=n2"
    assert look(tmp_path, 0, "n1", 0.001, environ).problem == ""


def test_gpus_are_found_without_their_driver(tmp_path):
    devices = {"a": ("0x10de", "0x030200"), "b": ("0x10de", "0x040300"), "c": ("0x1002", "0x120000")}
    devices |= {"d": ("0x8086", "0x030000")}
    for name, (vendor, kind) in devices.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    (tmp_path / "broken").mkdir()
    assert gpus_on_bus(tmp_path) == 2
