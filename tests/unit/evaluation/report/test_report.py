import builtins
import importlib.util
import json
import math
import re

import pytest
from PIL import Image
from rich.console import Console

from flamingo_ds.errors import EXIT_BAD_INPUT, EXIT_DONE, ConfigError
from flamingo_ds.evaluation.report import print_table, read_report, write_json, write_report
from flamingo_ds.evaluation.report.__main__ import main
from flamingo_ds.evaluation.report.grades import grades, right_and_wrong
from flamingo_ds.evaluation.report.page import _prompt as prompt_of
from flamingo_ds.evaluation.report.series import all_series, labels, over_seeds
from flamingo_ds.evaluation.results import Interval, Prediction, Report

from .making import pictures, report


def printed(reports):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(reports, console)
    return console.export_text()


def without_nan(made):
    return Report(made.model, made.settings, made.tasks[:2])


def test_json_gives_back_the_report(tmp_path):
    made = report(tmp_path)
    write_json(made, tmp_path / "deep" / "report.json")
    read = read_report(tmp_path / "deep" / "report.json")
    assert without_nan(read) == without_nan(made)
    assert math.isnan(read.tasks[2].cells[0].scores["roc_auc"].value)
    content = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert content["tasks"][0]["cells"][0]["empty_answers"] == 1
    assert content["tasks"][2]["cells"][0]["scores"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert sum(len(cell["predictions"]) for task in content["tasks"] for cell in task["cells"]) == 3 * 12 + 6 * 20


def test_files_that_are_no_reports_are_refused(tmp_path):
    write_json(report(tmp_path), tmp_path / "good.json")
    content = json.loads((tmp_path / "good.json").read_text())
    del content["tasks"][0]["cells"][0]["seed"]
    for name, text in {"text": "no", "list": "[]", "other": '{"format": "x"}', "part": json.dumps(content)}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=name):
            read_report(tmp_path / name)
    with pytest.raises(ConfigError, match="absent"):
        read_report(tmp_path / "absent")


def test_the_table_says_scores_and_what_is_missing(tmp_path):
    made = report(tmp_path)
    text = printed({"alpha": made})
    first = made.tasks[0].cells[1].scores["cider"]
    assert f"{first.value:.3f}" in text
    assert f"{first.low:.3f}–{first.high:.3f}" in text  # noqa: RUF001
    assert "undefined" in text
    assert "alpha, coco: unusable samples: 2 missing_image" in text
    assert "alpha, coco, 4 shots, seed 0: 1 of 12 answers are empty" in text
    assert "alpha, animals, 16 shots, seed 1: not asked: 1 unreadable_image" in text
    assert "several seeds" in text


def test_models_stand_side_by_side(tmp_path):
    made, other = report(tmp_path), report(tmp_path, "runs/beta", better=2)
    rows = [(row.task, row.score, row.label) for row in all_series({"alpha": made, "beta": other})]
    assert rows[:4] == [(("coco"), score, model) for score in ("cider", "bleu4") for model in ("alpha", "beta")]
    assert list(labels([made, made], [tmp_path / "a", tmp_path / "b"])) == [
        f"alpha ({tmp_path / name})" for name in ("a", "b")
    ]


def test_seeds_are_meaned():
    assert over_seeds([Interval(0.5, 0.4, 0.6), Interval(0.7, 0.6, 0.9)]) == Interval(0.6, 0.4, 0.9)


def test_plot_and_page(tmp_path):
    made = report(tmp_path)
    write_report(made, tmp_path / "report.json", tmp_path / "report")
    assert Image.open(tmp_path / "report" / "scores.png").size[0] > 1000
    page = (tmp_path / "report" / "samples.html").read_text()
    # Self-contained: nothing is fetched.
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    # Four of each kind in each cell, where there are: 3, 6 and 8 of 12 captions are right, 7, 12 and 17 of 20 classes.
    assert page.count('<article class="good"') == 3 + 4 + 4 + 4 + 4 + 4
    assert page.count('<article class="bad"') == 4 + 4 + 4 + 4 + 4 + 3
    assert "bird &amp; bee" in page
    assert "a cat sits on mat" in page
    assert "(empty)" in page


@pytest.mark.parametrize(
    ("prompt", "media", "order"),
    [
        ("<image>Output: cat<EOC><image>Say:", (0, 1), ["0.png", ": cat", "1.png", ">Say:"]),
        ("[IMG]A [IMG]B:", (0, 1), ["0.png", "1.png", "[IMG]A"]),
        ("<image><image>A:", (0,), ["0.png", "&lt;image&gt;&lt;image&gt;A:"]),
        ("", (0,), ["0.png", "what?"]),
    ],
)
def test_pictures_stand_in_their_places(tmp_path, prompt, media, order):
    paths = tuple(pictures(tmp_path)[number] for number in media)
    text = prompt_of(Prediction("k", "x", ("x",), "what?", paths[-1:], prompt=prompt, prompt_media=paths))
    places = [text.index(piece) for piece in order]
    assert places == sorted(places)
    assert text.count("<img") == len(media)


def test_a_picture_that_is_gone_leaves_its_name(tmp_path):
    made = report(tmp_path)
    (tmp_path / "picture-1.png").unlink()
    from flamingo_ds.evaluation.report.thumbnails import thumbnail

    thumbnail.cache_clear()
    write_report(made, tmp_path / "report.json", tmp_path / "report")
    assert ">picture-1.png</span>" in (tmp_path / "report" / "samples.html").read_text()


def test_grades_of_scores_with_and_without_one_a_query():
    some = [Prediction("a", "Two dogs", ("2 dogs",)), Prediction("b", "cat", ("cat",)), Prediction("c", "", ("cat",))]
    assert grades("exact_match", some) == [1, 1, 0]
    assert grades("roc_auc", some) == grades("image_to_text_recall_at_1", some) == [0, 1, 0]
    assert right_and_wrong("exact_match", [1, 1, 0], 1) == ([1], [2])
    assert right_and_wrong("cider", [0.2, 3.0, 0.1, 0.3], 3) == ([1, 3], [0, 2])
    assert right_and_wrong("cider", [0.0, 0.0], 3) == ([], [0, 1])


def test_without_matplotlib_the_json_is_there_and_one_line_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"flamingo_ds\[eval\]"):
        write_report(report(tmp_path), tmp_path / "report.json", tmp_path / "report")
    assert read_report(tmp_path / "report.json").model == "runs/alpha"


def test_neither_table_nor_json_needs_matplotlib(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **named):
        assert not name.startswith("matplotlib")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    write_report(report(tmp_path), tmp_path / "report.json", None)
    printed({"alpha": read_report(tmp_path / "report.json")})


def test_command_line(tmp_path, capsys):
    for name, better in (("alpha", 0), ("beta", 2)):
        write_json(report(tmp_path, f"runs/{name}", better), tmp_path / f"{name}.json")
    files = [str(tmp_path / f"{name}.json") for name in ("alpha", "beta")]
    assert main([*files, "--plot", str(tmp_path / "both.png")]) == EXIT_DONE
    assert (tmp_path / "both.png").stat().st_size > 10_000
    assert "beta" in capsys.readouterr().out
    assert main([str(tmp_path / "absent.json")]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1
    assert main([files[0], "--plot", str(tmp_path / "no" / "folder.png")]) == EXIT_BAD_INPUT
