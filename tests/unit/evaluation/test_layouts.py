"""Every task's official layout in miniature: what is read of it, and the prompt."""

import json

import pytest

from flamingo_ds.evaluation.prompts import build_prompt, render
from flamingo_ds.evaluation.task import Answering, Sample
from flamingo_ds.evaluation.tasks import TASKS, load_task


def prompt_of(task):
    """One example, one query."""
    return render(build_prompt(task, task.queries[0], task.support[:1]))


def karpathy(*images):
    return {
        "images": [
            {"filename": name, "split": split, "sentences": [{"raw": caption} for caption in captions], **more}
            for name, split, captions, more in images
        ],
        "dataset": "any",
    }


def test_coco_in_karpathys_splits(write, tmp_path):
    write(
        "dataset_coco.json",
        karpathy(
            ("COCO_train2014_000000000009.jpg", "train", [" A cat. ", "Cat."], {"filepath": "train2014", "cocoid": 9}),
            ("COCO_val2014_000000000010.jpg", "restval", ["A dog."], {"filepath": "val2014"}),
            ("COCO_val2014_000000000011.jpg", "val", ["A cow."], {"filepath": "val2014"}),
            ("COCO_val2014_000000000012.jpg", "test", ["A bus.", "Bus."], {"filepath": "val2014"}),
        ),
    )
    files = [
        write(f"{split}2014/COCO_{split}2014_{number:012d}.jpg")
        for split, number in (("train", 9), ("val", 10), ("val", 11), ("val", 12))
    ]
    task = load_task("coco", tmp_path)
    assert task.support == [
        Sample(files[0].name, (files[0],), answers=("A cat.", "Cat.")),
        Sample(files[1].name, (files[1],), answers=("A dog.",)),
    ]
    assert task.queries == [Sample(files[3].name, (files[3],), answers=("A bus.", "Bus."))]
    assert (task.answering, task.scores, task.skipped) == (Answering.open_ended, ("cider", "bleu4"), {})
    assert prompt_of(task) == "<image>Output: A cat.<EOC><image>Output:"


def test_coco_as_published(write, tmp_path):
    for split, number in (("train", 9), ("val", 42)):
        name = f"COCO_{split}2014_{number:012d}.jpg"
        captions = [{"image_id": number, "caption": f"{split} {n}.", "id": n} for n in range(2)]
        content = {"images": [{"id": number, "file_name": name}], "annotations": captions}
        write(f"annotations/captions_{split}2014.json", content)
        write(f"{split}2014/{name}")
    task = load_task("coco", tmp_path)
    assert task.queries == [
        Sample(
            "COCO_val2014_000000000042.jpg",
            (tmp_path / "val2014" / "COCO_val2014_000000000042.jpg",),
            answers=("val 0.", "val 1."),
        )
    ]
    assert prompt_of(task) == "<image>Output: train 0.<EOC><image>Output:"


@pytest.mark.parametrize("folder", ["flickr30k-images", "images"])
def test_flickr30k(write, tmp_path, folder):
    write(
        "dataset_flickr30k.json",
        karpathy(("1.jpg", "train", ["Two men."], {}), ("2.jpg", "val", ["x"], {}), ("3.jpg", "test", ["A girl."], {})),
    )
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        write(f"{folder}/{name}")
    task = load_task("flickr30k", tmp_path)
    assert task.queries == [Sample("3.jpg", (tmp_path / folder / "3.jpg",), answers=("A girl.",))]
    assert prompt_of(task) == "<image>Output: Two men.<EOC><image>Output:"


TEN = ["two", *["3"] * 5, *["three"] * 4]


@pytest.mark.parametrize(("name", "version"), [("vqav2", "v2_"), ("okvqa", "")])
@pytest.mark.parametrize("folders", [("", ""), ("annotations/", "questions/")])
def test_vqa_of_coco(write, tmp_path, name, version, folders):
    for split, number in (("train", 9), ("val", 42)):
        answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": 1} for answer in TEN]
        annotations = [{"question_id": number * 1000, "image_id": number, "answers": answers}]
        write(f"{folders[0]}{version}mscoco_{split}2014_annotations.json", {"annotations": annotations})
        questions = [{"question_id": number * 1000, "image_id": number, "question": "How many? "}]
        write(f"{folders[1]}{version}OpenEnded_mscoco_{split}2014_questions.json", {"questions": questions})
        write(f"{split}2014/COCO_{split}2014_{number:012d}.jpg")
    task = load_task(name, tmp_path)
    # The answer given most often stands in prompts; all ten are kept for the score.
    ordered = ("3",) * 5 + ("three",) * 4 + ("two",)
    image = tmp_path / "val2014" / "COCO_val2014_000000000042.jpg"
    assert task.queries == [Sample("42000", (image,), "How many? ", ordered)]
    assert (task.name, task.scores) == (name, ("vqa_accuracy",))
    assert prompt_of(task) == "<image>Question: How many? Answer: 3<EOC><image>Question: How many? Answer:"


def test_textvqa(write, tmp_path):
    for split, number in (("train", 1), ("val", 2)):
        entry = {"question_id": number, "image_id": f"0a{number}", "question": "What brand?", "ocr_tokens": ["SECRET"]}
        write(f"TextVQA_0.5.1_{split}.json", {"data": [{**entry, "answers": ["nokia", "Nokia", "nokia"]}]})
        write(f"train_images/0a{number}.jpg")
    task = load_task("textvqa", tmp_path)
    image = tmp_path / "train_images" / "0a2.jpg"
    assert task.queries == [Sample("2", (image,), "What brand?", ("nokia", "nokia", "Nokia"))]
    assert prompt_of(task) == "<image>Question: What brand? Answer: nokia<EOC><image>Question: What brand? Answer:"


@pytest.mark.parametrize("folder", ["", "Annotations/"])
def test_vizwiz(write, tmp_path, folder):
    for split in ("train", "val"):
        name = f"VizWiz_{split}_00000000.jpg"
        answers = [{"answer": "unanswerable", "answer_confidence": "yes"}] * 6 + [{"answer": "soup"}] * 4
        write(f"{folder}{split}.json", [{"image": name, "question": "What is it?", "answers": answers}])
        write(f"{split}/{name}")
    task = load_task("vizwiz", tmp_path)
    image = tmp_path / "val" / "VizWiz_val_00000000.jpg"
    assert task.queries == [Sample(image.name, (image,), "What is it?", ("unanswerable",) * 6 + ("soup",) * 4)]
    assert prompt_of(task).startswith("<image>Question: What is it? Answer: unanswerable<EOC>")


def test_hateful_memes(write, tmp_path):
    write("train.jsonl", [{"id": 42953, "img": "img/42953.png", "label": 0, "text": "its their character"}])
    write("dev_seen.jsonl", [{"id": 8291, "img": "img/08291.png", "label": 1, "text": "white people"}])
    for name in ("42953", "08291"):
        write(f"img/{name}.png")
    task = load_task("hateful_memes", tmp_path)
    assert task.queries == [Sample("8291", (tmp_path / "img/08291.png",), "white people", ("yes",))]
    assert (task.answering, task.options, task.scores[0]) == (Answering.close_ended, ("no", "yes"), "roc_auc")
    assert prompt_of(task) == (
        '<image>is an image with written: "its their character" on it. Is it hateful? Answer: no<EOC>'
        '<image>is an image with written: "white people" on it. Is it hateful? Answer:'
    )


def test_imagenet_with_its_mapping(write, tmp_path):
    names = {
        "n01440764": "tench, Tinca tinca",
        "n02012849": "crane",
        "n03126707": "crane",
        "n03710637": "maillot",
        "n03710721": "maillot, tank suit",
    }
    write("LOC_synset_mapping.txt", "".join(f"{folder} {name}\n" for folder, name in names.items()))
    for folder in names:
        write(f"train/{folder}/{folder}_1.JPEG")
        write(f"val/{folder}/ILSVRC2012_val_{folder[-3:]}.JPEG")
    write("val/n01440764/notes.txt")
    task = load_task("imagenet", tmp_path)
    assert task.options == ("tench", "crane", "maillot", "maillot, tank suit")
    assert [query.answers[0] for query in task.queries] == ["tench", "crane", "crane", "maillot", "maillot, tank suit"]
    image = tmp_path / "val/n01440764/ILSVRC2012_val_764.JPEG"
    assert task.queries[0] == Sample("val/n01440764/ILSVRC2012_val_764.JPEG", (image,), answers=("tench",))
    assert (task.answering, task.scores) == (Answering.close_ended, ("accuracy",))
    assert prompt_of(task) == "<image>Output: tench<EOC><image>Output:"


def test_imagenet_without_a_mapping(write, tmp_path):
    for name in ("train/golden_retriever/1.png", "val/golden_retriever/1.png", "val/tabby/1.png"):
        write(name)
    task = load_task("imagenet", tmp_path)
    assert task.options == ("golden retriever", "tabby")
    assert [query.key for query in task.queries] == ["val/golden_retriever/1.png", "val/tabby/1.png"]


def test_msvd_qa(write, tmp_path):
    write("youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\nabc_0_9 vid2\n")
    write("train_qa.json", [{"id": 0, "video_id": 1, "question": "who eats?", "answer": "squirrel"}])
    write("test_qa.json", [{"id": 7, "video_id": 2, "question": "what is it?", "answer": "man"}])
    write("video/-4wsuPCjDBc_5_15.avi")
    write("video/abc_0_9/0001.jpg")  # a folder of frames
    task = load_task("msvd_qa", tmp_path)
    assert task.support[0].media == (tmp_path / "video/-4wsuPCjDBc_5_15.avi",)
    assert task.queries == [Sample("7", (tmp_path / "video/abc_0_9",), "what is it?", ("man",))]
    assert prompt_of(task) == "<image>Question: who eats? Answer: squirrel<EOC><image>Question: what is it? Answer:"
    assert task.scores == ("exact_match",)


@pytest.mark.parametrize("folders", [("TrainValVideo", "TestVideo"), ("video", "video"), ("videos", "videos")])
def test_msrvtt_qa(write, tmp_path, folders):
    write("train_qa.json", [{"id": 0, "video_id": 3, "category_id": 1, "question": "who?", "answer": "man"}])
    write("test_qa.json", [{"id": 7, "video_id": 7010, "question": "what?", "answer": "car"}])
    write(f"{folders[0]}/video3.mp4")
    write(f"{folders[1]}/video7010.mp4")
    task = load_task("msrvtt_qa", tmp_path)
    assert task.queries == [Sample("7", (tmp_path / folders[1] / "video7010.mp4",), "what?", ("car",))]
    assert task.support[0].media == (tmp_path / folders[0] / "video3.mp4",)


def test_ivqa(write, tmp_path):
    header = "video_id,start,end,question,answer1,answer2,answer3,answer4,answer5,conf1\n"
    write("train.csv", header + 'abc,7,14,"What, then?",pan,a pan,a pan,,pot,1\n')
    write("test.csv", header + "xyz,0,9,Which tool?,knife,knife,spoon,knife,fork,1\n")
    write("video/abc_7_14.webm")
    write("video/xyz_0_9.mp4")
    task = load_task("ivqa", tmp_path)
    video = tmp_path / "video/xyz_0_9.mp4"
    assert task.queries == [Sample("test 0", (video,), "Which tool?", ("knife", "knife", "knife", "spoon", "fork"))]
    assert task.support[0].answers == ("a pan", "a pan", "pan", "pot")
    assert prompt_of(task) == "<image>Question: What, then? Answer: a pan<EOC><image>Question: Which tool? Answer:"


def test_msvd(write, tmp_path):
    write(
        "AllVideoDescriptions.txt",
        "# a comment\n\na_1_2 A squirrel eats.\na_1_2 An animal.\nb_0_9 A man runs.\nc_0_1 Unused.\n",
    )
    write("train_list.txt", "a_1_2\n")
    write("test_list.txt", "b_0_9\n")
    write("YouTubeClips/a_1_2.avi")
    write("YouTubeClips/b_0_9.avi")
    task = load_task("msvd", tmp_path)
    assert task.queries == [Sample("b_0_9", (tmp_path / "YouTubeClips/b_0_9.avi",), answers=("A man runs.",))]
    assert task.support[0].answers == ("A squirrel eats.", "An animal.")
    assert prompt_of(task) == "<image>Output: A squirrel eats.<EOC><image>Output:"


def test_vatex(write, tmp_path):
    for split, name in (("training", "-a_000001_000011"), ("validation", "b_000007_000017")):
        write(f"vatex_{split}_v1.0.json", [{"videoID": name, "enCap": [f"{split}.", "x"], "chCap": ["y"]}])
        write(f"videos/{name}.mp4")
    task = load_task("vatex", tmp_path)
    assert task.queries == [
        Sample("b_000007_000017", (tmp_path / "videos/b_000007_000017.mp4",), answers=("validation.", "x"))
    ]
    assert task.scores == ("cider", "bleu4")


FIRST_FILES = {
    "coco": "dataset_coco.json",
    "flickr30k": "dataset_flickr30k.json",
    "hateful_memes": "train.jsonl",
    "imagenet": "the folder train",
    "ivqa": "the folder video or videos",
    "jsonl": "queries.jsonl",
    "msrvtt_qa": "the folder video or videos",
    "msvd": "the folder YouTubeClips or videos or video",
    "msvd_qa": "the folder video or videos or YouTubeClips",
    "okvqa": "mscoco_train2014_annotations.json or annotations/mscoco_train2014_annotations.json",
    "textvqa": "TextVQA_0.5.1_train.json",
    "vatex": "the folder videos or video",
    "vizwiz": "train.json or Annotations/train.json or annotations/train.json",
    "vqav2": "v2_mscoco_train2014_annotations.json or annotations/v2_mscoco_train2014_annotations.json",
}


@pytest.mark.parametrize("name", TASKS)
def test_a_folder_of_another_layout_is_told_what_was_expected(error_of, tmp_path, name):
    assert FIRST_FILES[name] in error_of(load_task, name, tmp_path)


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("coco", {"dataset_coco.json": []}, "Karpathy's splits; its top is a list"),
        ("coco", {"dataset_coco.json": {"images": 3}}, "entries with 'images' (list); one has 3"),
        ("coco", {"dataset_coco.json": "{"}, "Karpathy's splits, in JSON: Expecting property name"),
        ("coco", {"annotations/x": ""}, "the file annotations/captions_train2014.json in it"),
        ("coco", {"dataset_coco.json": {"images": [{"sentences": []}]}}, "entries with 'filepath' (str); one has None"),
        ("hateful_memes", {"train.jsonl": [{"id": 1}]}, "entries with 'img' (str); one has None"),
        (
            "hateful_memes",
            {
                "train.jsonl": [{"id": 1, "img": "1.png", "label": 2, "text": "x"}],
                "dev_seen.jsonl": [{"id": 2, "img": "2.png", "label": 1, "text": "x"}],
            },
            "answers among no, yes; sample '1' of its support set has '2'",
        ),
        ("imagenet", {"train/x.txt": "", "val/x.txt": ""}, "a folder a class: train/CLASS/*, val/CLASS/*"),
        (
            "imagenet",
            {"train/a/1.jpg": "", "val/b/1.jpg": "", "LOC_synset_mapping.txt": "a thing"},
            "a line for each class; it has none for b",
        ),
        ("ivqa", {"video/x": "", "train.csv": "video_id,question\n"}, "it lacks start, end, answer1"),
        ("msvd", {"YouTubeClips/x": "", "AllVideoDescriptions.txt": "a b", "train_list.txt": "c"}, "'c' is none"),
        ("vizwiz", {"train.json": [3], "train/x": ""}, "entries with 'image' (str); one has None"),
        ("textvqa", {"TextVQA_0.5.1_train.json": {"data": []}}, "the folder train_images in it"),
        (
            "textvqa",
            {
                "train_images/1": "",
                "TextVQA_0.5.1_train.json": {"data": [{"question_id": 1, "image_id": "1", "answers": 3}]},
            },
            "entries with 'answers' (list); one has 3",
        ),
    ],
)
def test_files_of_another_kind(write, error_of, tmp_path, name, files, expected):
    for file, content in files.items():
        write(file, content)
    assert expected in error_of(load_task, name, tmp_path)


def test_splits_without_answers_have_nothing_to_ask(write, error_of, tmp_path):
    for split in ("train", "val"):
        write(f"{split}.json", [{"image": f"{split}.jpg", "question": "What?"}])
        write(f"{split}/{split}.jpg")
    assert error_of(load_task, "vizwiz", tmp_path).endswith("queries that can be asked; vizwiz has 1 no_answer")


def test_a_missing_video_is_counted(write, tmp_path):
    for split, name in (("training", "a"), ("validation", "b")):
        entries = [{"videoID": f"{name}{number}", "enCap": ["x"]} for number in range(3)]
        (tmp_path / f"vatex_{split}_v1.0.json").write_text(json.dumps(entries))
    write("videos/a0.mp4")
    write("videos/b1.mkv")
    task = load_task("vatex", tmp_path)
    assert [query.key for query in task.queries] == ["b1"]
    assert task.skipped == {"missing_video": 2, "support_missing_video": 2}
