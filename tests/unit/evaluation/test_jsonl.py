import pytest

from flamingo_ds.evaluation.task import Answering, Sample
from flamingo_ds.evaluation.tasks import TASKS, load_task


@pytest.fixture
def load(write, tmp_path):
    """A task of lines; every picture that they name is there."""

    def call(queries, support=None, settings=None, **named):
        write("queries.jsonl", queries)
        if support is not None:
            write("support.jsonl", support)
        if settings is not None:
            write("task.json", settings)
        for name in ("a.png", "b.png", "c.png"):
            write(name)
        return load_task("jsonl", tmp_path, **named)

    return call


def test_captions(load, tmp_path):
    task = load(
        [{"id": 1, "image": "a.png", "answers": ["a dax", "a wug"]}], [{"id": 2, "image": "b.png", "answer": "x"}]
    )
    assert (task.name, task.answering, task.scores, task.instruction) == (
        "jsonl",
        Answering.open_ended,
        ("cider",),
        "Output:",
    )
    assert task.queries == [Sample("1", (tmp_path / "a.png",), "", ("a dax", "a wug"))]
    assert task.support == [Sample("2", (tmp_path / "b.png",), "", ("x",))]
    assert (task.skipped, task.episodes) == ({}, {})


def test_questions(load):
    task = load([{"id": "q", "image": "a.png", "question": "What?", "answer": 3}])
    assert (task.instruction, task.scores) == ("Question: {question} Answer:", ("exact_match",))
    assert (task.queries[0].question, task.queries[0].answers, task.support) == ("What?", ("3",), [])


def test_everything_that_a_line_and_a_task_may_say(load, tmp_path):
    task = load(
        [
            {
                "id": "q",
                "images": ["a.png", "b.png"],
                "answer": "dax",
                "options": ["dax", "wug"],
                "media_keys": ["digit 3", "digit 4"],
                "examples": ["s"],
            }
        ],
        [{"id": "s", "image": "c.png", "answer": "wug", "options": ["dax", "wug"], "media_key": "digit 5"}],
        {"answering": "close_ended", "instruction": "This is", "scores": ["accuracy", "x"], "max_new_tokens": 5},
    )
    assert task.queries == [
        Sample(
            "q",
            (tmp_path / "a.png", tmp_path / "b.png"),
            "",
            ("dax",),
            ("dax", "wug"),
            ("digit 3", "digit 4"),
        )
    ]
    assert task.support[0].media_keys == ("digit 5",)
    assert (task.instruction, task.scores, task.max_new_tokens) == ("This is", ("accuracy", "x"), 5)
    assert task.episodes == {"q": ("s",)}


def test_a_list_of_options_makes_it_close_ended(load):
    task = load([{"id": "q", "image": "a.png", "answer": "no"}], settings={"options": ["no", "yes"]})
    assert (task.answering, task.options, task.scores) == (Answering.close_ended, ("no", "yes"), ("accuracy",))


def test_what_cannot_be_used_is_counted_by_kind(load):
    good = {"id": "good", "image": "a.png", "answer": "x"}
    task = load(
        [
            good,
            {"id": 1, "image": "not there.png", "answer": "x"},
            {"id": 2, "video": "not there.mp4", "answer": "x"},
            {"id": 3, "image": "a.png", "answer": " "},
            {"id": 4, "image": "a.png"},
            {"id": 5, "image": "a.png", "answer": "\ud800"},
        ],
        [good, {"id": 1, "image": "folder/a.png", "answer": "x"}],
    )
    assert [query.key for query in task.queries] == ["good"]
    assert task.skipped == {
        "missing_image": 1,
        "missing_video": 1,
        "no_answer": 2,
        "undecodable_text": 1,
        "support_missing_image": 1,
    }


Q = {"id": "q", "image": "a.png", "answer": "x"}


@pytest.mark.parametrize(
    ("queries", "support", "settings", "expected"),
    [
        ([Q, Q], None, None, "'q' stands twice in its queries"),
        ([Q], [Q, Q], None, "'q' stands twice in its support set"),
        ([{"id": "q", "image": "b.jpg", "answer": "x"}], None, None, "queries that can be asked; jsonl has 1 missing"),
        ([], None, None, "queries that can be asked; jsonl has none at all"),
        ("[1]\n", None, None, "queries.jsonl:1': expected a JSON object; it is a list"),
        ("\n{\n", None, None, "queries.jsonl:2': expected a JSON object: "),
        (b"\xff", None, None, "expected a text in UTF-8"),
        ([{**Q, "image": None, "img": "a"}], None, None, "it has img"),
        ([{**Q, "id": None}], None, None, "an id, a text or a whole number; it is None"),
        ([{**Q, "id": True}], None, None, "an id, a text or a whole number; it is True"),
        ([{**Q, "answer": {"a": 1}}], None, None, "a text or a list of texts as answer; it is {'a': 1}"),
        ([{**Q, "video": "x.mp4"}], None, None, "one of image, images, video; it has image and video"),
        ([{**Q, "examples": ["s"]}], [Q], None, "support.jsonl; 's' is none"),
        ([Q], None, {"options": ["y", "z"]}, "answers among y, z; sample 'q' of its queries has 'x'"),
        ([Q], [{**Q, "answer": "w"}], {"options": ["x", "z"]}, "sample 'q' of its support set has 'w'"),
        ([Q], None, {"options": ["x", "x", "y"]}, "options that differ; 'x' stands there twice"),
        ([{**Q, "options": ["x", "x"]}], None, None, "two different options or more for sample 'q'"),
        ([{**Q, "options": ["x", " "]}], None, None, "no empty option for sample 'q'"),
        ([Q], None, {"options": ["x", ""]}, "no empty option"),
        ([Q], None, {"answering": "close_ended"}, "two different options or more for sample 'q'"),
        ([Q], None, {"answering": "open"}, "answering open_ended or close_ended; it is 'open'"),
        ([Q], None, {"prompt": "Output:"}, "it has prompt"),
        ([Q], None, {"instruction": 3}, "a text as instruction; it is 3"),
        ([Q], None, {"scores": 3.5}, "a text or a list of texts as scores; it is 3.5"),
        ([Q], None, {"max_new_tokens": 0}, "1 or more as max_new_tokens; it is 0"),
        ([Q], None, [1], "its top is a list"),
        ([Q], None, "{", "scores, in JSON: "),
    ],
)
def test_what_is_refused(load, error_of, queries, support, settings, expected):
    assert expected in error_of(load, queries, support, settings)


def test_a_wrong_name_a_wrong_path_and_another_layout(error_of, tmp_path):
    assert ", ".join(sorted(TASKS)) in error_of(load_task, "jsonlines", tmp_path)
    assert "expected the folder of jsonl" in error_of(load_task, "jsonl", tmp_path / "x")
    assert error_of(load_task, "jsonl", tmp_path).endswith("expected the file queries.jsonl in it")
    assert "expected 1 or more" in error_of(load_task, "jsonl", tmp_path, support_limit=0)
