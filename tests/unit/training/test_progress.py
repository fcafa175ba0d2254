import re

from flamingo_ds.training.progress import ProgressDisplay

VALUES = {"loss": 1.5, "lr": 1e-3, "tokens_per_s": 1234.0}


def run(path, start, last, enabled=True):
    with ProgressDisplay(start, 300, 10, enabled, path) as display:
        for step in range(start + 1, last + 1):
            display.step(step, VALUES)
        display.say("saved [checkpoint]")


def test_lines_of_all_starts_are_in_one_file(tmp_path, capsys):
    path = tmp_path / "progress.log"
    run(path, 0, 20)
    run(path, 20, 35)
    lines = path.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    texts = [line[21:] for line in lines]
    assert texts == capsys.readouterr().out.splitlines()
    assert [text.split("  ")[0] for text in texts] == [
        "step 10/300",
        "step 20/300",
        "saved [checkpoint]",
        "step 30/300",
        "saved [checkpoint]",
    ]


def test_other_ranks_say_nothing(tmp_path, capsys):
    run(tmp_path / "progress.log", 0, 20, enabled=False)
    assert not (tmp_path / "progress.log").exists()
    assert capsys.readouterr().out == ""
