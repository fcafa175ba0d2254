import os
import threading

import pytest
import torch

from flamingo_ds.checkpoint import saver as module
from flamingo_ds.checkpoint.markers import CheckpointError, leave_marker, wait_for_markers
from flamingo_ds.checkpoint.retention import Retention
from flamingo_ds.checkpoint.saver import CheckpointSaver
from flamingo_ds.checkpoint.snapshot import take_snapshot
from flamingo_ds.checkpoint.store import Checkpoint, find_checkpoint
from tests.saving import StateEngine, begin, content, flat_state, save, value_of


@pytest.fixture
def gate(monkeypatch):
    """Writing waits for this."""
    event, write = threading.Event(), module.write_snapshot

    def waiting(*arguments):
        assert event.wait(30)
        return write(*arguments)

    monkeypatch.setattr(module, "write_snapshot", waiting)
    yield event
    event.set()


def make(folder, in_background=True, keep_last=None):
    return CheckpointSaver(folder, Retention(keep_last), in_background, 0)


def test_training_goes_on_while_a_checkpoint_is_written(alone, tmp_path, gate):
    saver = make(tmp_path)
    state, data = flat_state(1.0), {"value": 1.0}
    reference = {"logits": torch.ones(2)}
    saver.save(content(1), StateEngine(state), reference, data)
    assert saver.saved() is None
    assert find_checkpoint(tmp_path, "") is None
    # What trains goes on in the same memory.
    for parts in state.values():
        for tensor in parts.values():
            tensor.fill_(7.0)
    reference["logits"].fill_(7.0)
    data["value"] = 7.0
    gate.set()
    saver.finish()
    assert saver.saved().path == tmp_path / "step-00000001"
    assert saver.saved() is None
    assert value_of(tmp_path / "latest") == 1.0


def test_the_next_save_waits_for_the_one_under_way(alone, tmp_path, gate):
    saver = make(tmp_path)
    begin(saver, 1, 1.0)
    threading.Timer(0.3, gate.set).start()
    begin(saver, 2, 2.0)
    assert gate.is_set()
    assert value_of(tmp_path / "step-00000001") == 1.0
    saver.finish()
    assert value_of(tmp_path / "latest") == 2.0


def test_without_a_background_a_save_is_whole_when_it_returns(alone, tmp_path):
    saver = make(tmp_path, in_background=False, keep_last=1)
    for step in (1, 2):
        begin(saver, step, float(step))
        assert saver.saved().seconds > 0
        assert value_of(tmp_path / "latest") == float(step)
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000002"]


@pytest.mark.parametrize("hear", ["finish", "save"])
def test_an_error_while_writing_is_heard_of(alone, tmp_path, monkeypatch, hear):
    save(tmp_path, 1, 1.0)
    saver = make(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_snapshot", full)
    begin(saver, 2, 2.0)
    with pytest.raises(CheckpointError, match=r"rank 0: OSError: \[Errno 28\] No space left on device"):
        saver.finish() if hear == "finish" else begin(saver, 3, 3.0)
    assert saver.saved() is None
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000001", "step-00000002.partial"]
    assert value_of(find_checkpoint(tmp_path, "").path) == 1.0
    monkeypatch.undo()
    begin(saver, 3, 3.0)
    saver.finish()
    assert sorted(os.listdir(tmp_path)) == ["latest", "step-00000001", "step-00000003"]


def test_an_error_before_writing_is_heard_of_at_once(alone, tmp_path):
    saver = make(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="rank 0: FileNotFoundError"):
        begin(saver, 1, 1.0)
    saver.finish()


def test_after_an_error_in_training_the_save_under_way_still_ends(alone, tmp_path, gate):
    saver = make(tmp_path)
    begin(saver, 1, 1.0)
    threading.Timer(0.2, gate.set).start()
    saver.abandon()
    assert value_of(tmp_path / "latest") == 1.0
    saver.abandon()


def test_after_an_error_in_training_nobody_waits_long_for_the_others(alone, tmp_path, monkeypatch, caplog):
    """Another rank, which does not exist here, never leaves its marker."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.2)
    saver = make(tmp_path)
    wait = wait_for_markers
    monkeypatch.setattr("flamingo_ds.checkpoint.publish.wait_for_markers", lambda f, n, give_up: wait(f, 2, give_up))
    begin(saver, 1, 1.0)
    saver.abandon()
    assert "no word that these ranks wrote their part: 1" in caplog.text
    assert os.listdir(tmp_path) == ["step-00000001.partial"]


def test_the_model_s_folder_is_made_once(alone, tmp_path):
    saver, made = make(tmp_path, in_background=False), []
    counted = content(1)
    write = counted.model_config.save_pretrained
    counted.model_config.save_pretrained = lambda folder: (made.append(folder), write(folder))
    for _ in range(3):
        saver.save(counted, StateEngine(flat_state(1.0)), {"logits": torch.ones(2)}, {"value": 1.0})
    assert len(made) == 2  # of configuration and processor, which are one here
    assert value_of(tmp_path / "latest") == 1.0


def test_a_follower_writes_no_data_position(alone, tmp_path):
    saver = CheckpointSaver(tmp_path, Retention(), False, None)
    saver.save(content(1), StateEngine(flat_state(1.0)), {"logits": torch.ones(2)}, None)
    checkpoint = Checkpoint(tmp_path / "latest")
    assert checkpoint.data_ranks == 0
    assert not (checkpoint.path / "data").exists()


def test_others_can_read_what_was_written(alone, tmp_path):
    before = os.umask(0o027)
    try:
        save(tmp_path, 1, 1.0)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "step-00000001").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_share_is_even_and_nothing_is_left_out(count):
    """Big and small in turn: taking turns by number would give all the big ones to one of two ranks."""
    sizes = [1000, 1] * 8
    state = {
        f"{n}": {kind: torch.zeros(size) for kind in ("weight", "exp_avg", "exp_avg_sq")}
        for n, size in enumerate(sizes)
    }
    shares = [take_snapshot(StateEngine(state, (index, count)), None) for index in range(count)]
    names = [name for share in shares for name in share.names]
    assert sorted(names) == sorted(state)
    loads = [sum(sizes[int(name)] for name in share.names) for share in shares]
    assert max(loads) - min(loads) <= 1000
    assert all(share.tensors[kind].keys() == set(share.names) for share in shares for kind in share.tensors)


def test_markers(tmp_path):
    never = threading.Event()
    leave_marker(tmp_path, 1, {"names": ["b"]})
    with pytest.raises(CheckpointError, match="no word that these ranks wrote their part: 0, 2"):
        wait_for_markers(tmp_path, 3, never, patience=0.05)
    threading.Timer(0.1, lambda: [leave_marker(tmp_path, rank, {"names": [str(rank)]}) for rank in (2, 0)]).start()
    assert wait_for_markers(tmp_path, 3, never, patience=20) == [{"names": [name]} for name in ("0", "b", "2")]
    leave_marker(tmp_path, 3, {"error": "OSError: quota"})
    with pytest.raises(CheckpointError, match="rank 3 could not write its part: OSError: quota"):
        wait_for_markers(tmp_path, 5, never, patience=20)
