import pytest

from flamingo_ds.launching import turns


@pytest.mark.parametrize(("rank", "waited"), [("0", []), ("3", [turns.PATIENCE_SECONDS])])
def test_rank_0_speaks_first(monkeypatch, capsys, rank, waited):
    sleeps = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(turns.time, "sleep", sleeps.append)
    turns.say_in_turn("error: nothing")
    assert (sleeps, capsys.readouterr().err) == (waited, "error: nothing\n")
