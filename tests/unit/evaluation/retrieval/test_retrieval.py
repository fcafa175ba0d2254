import json

import numpy
import open_clip
import pytest
import torch
from PIL import Image

from flamingo_ds.errors import ConfigError
from flamingo_ds.evaluation.retrieval import run_retrieval
from flamingo_ds.evaluation.retrieval.contrastive import split_name
from flamingo_ds.evaluation.retrieval.places import places
from flamingo_ds.parallel.launch import Launch

from ....tiny import IMAGE_SIZE, write_open_clip

ALONE = Launch(0, 0, 1, "127.0.0.1", 0)
WORDS = ("red", "green", "blue", "dark", "bright", "small", "round", "old")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "clip"
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    write_open_clip(folder, text_cfg=text)
    return f"local-dir:{folder}"


@pytest.fixture
def folder(tmp_path):
    """Images with one to five captions, some of which stand at several images."""
    rng = numpy.random.default_rng(0)
    root = tmp_path / "data"
    root.mkdir()
    lines = []
    for number in range(70):
        pixels = rng.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        captions = [" ".join(rng.choice(WORDS, 3)) for _ in range(1 + number % 5)]
        lines.append({"id": str(number), "image": f"{number}.png", "answers": captions})
    (root / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root, lines


def plain_reference(name, root, lines):
    """Everything at once, by a full stable sort."""
    model, transform = open_clip.create_model_from_pretrained(name)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([transform(Image.open(root / line["image"])) for line in lines])
        images = model.encode_image(pixels, normalize=True)
        words = sorted({text for line in lines for text in line["answers"]})
        encoded = dict(zip(words, model.encode_text(tokenizer(words), normalize=True), strict=True))
    texts = [(number, text) for number, line in enumerate(lines) for text in line["answers"]]
    similarities = images.double() @ torch.stack([encoded[text] for _, text in texts]).double().T
    owner = torch.tensor([number for number, _ in texts])
    scores = {}
    for count in (1, 5, 10):
        order = (-similarities).argsort(dim=1, stable=True)[:, :count]
        hits = (owner[order] == torch.arange(len(lines))[:, None]).any(1)
        scores[f"image_to_text_recall_at_{count}"] = hits.double().mean().item()
    for count in (1, 5, 10):
        order = (-similarities.T).argsort(dim=1, stable=True)[:, :count]
        scores[f"text_to_image_recall_at_{count}"] = (order == owner[:, None]).any(1).double().mean().item()
    return scores


def values(result):
    return {name: interval.value for name, interval in result.cells[0].scores.items()}


def test_recall_is_that_of_a_plain_reference(clip, folder, tmp_path):
    root, lines = folder
    result = run_retrieval(clip, root, ALONE, tmp_path / "features")
    wanted = plain_reference(clip, root, lines)
    assert values(result) == pytest.approx(wanted, abs=1e-12)
    assert list(values(result)) == list(wanted)
    assert 0.02 < wanted["text_to_image_recall_at_10"] < 0.9
    texts = sum(len(line["answers"]) for line in lines)
    assert len(result.cells[0].predictions) == 70 + texts
    hits = [found.text in found.references for found in result.cells[0].predictions[70:]]
    assert sum(hits) / texts == pytest.approx(wanted["text_to_image_recall_at_1"])


@pytest.mark.usefixtures("alone")
def test_ranks_share_texts_and_images(clip, folder, tmp_path, monkeypatch):
    from flamingo_ds.evaluation.retrieval import contrastive

    root, _ = folder
    monkeypatch.setattr(contrastive, "GROUP", 16)
    wanted = run_retrieval(clip, root, ALONE, tmp_path / "one")
    model = contrastive.Contrastive(clip, ALONE)
    texts = [f"a {word}" for word in WORDS] * 7
    whole = model.text_features(texts)
    shares = {}

    def gather(results, mine):
        shares[model.launch.rank] = mine
        results[:] = [shares.get(rank, []) for rank in range(3)]

    monkeypatch.setattr(contrastive.dist, "all_gather_object", gather)
    for rank in (0, 1, 2):
        model.launch = Launch(rank, rank, 3, "127.0.0.1", 0)
        if rank < 2:
            with pytest.raises(IndexError):  # the others' shares are not there yet
                model.text_features(texts)
    numpy.testing.assert_array_equal(model.text_features(texts), whole)
    assert run_retrieval(clip, root, ALONE, tmp_path / "one") == wanted


def test_places_are_those_of_a_stable_sort():
    rng = numpy.random.default_rng(0)
    items = rng.integers(-2, 3, (60, 3)).astype(numpy.float32)  # many are equal
    queries = rng.integers(-2, 3, (300, 3)).astype(numpy.float32)
    right = [rng.choice(60, size=rng.integers(1, 4), replace=False) for _ in queries]
    order = numpy.argsort(-(queries @ items.T), axis=1, kind="stable")
    wanted = [min(list(row).index(own) for own in some) for row, some in zip(order, right, strict=True)]
    before, first = places(queries, items, right)
    assert before.tolist() == wanted
    assert first.tolist() == order[:, 0].tolist()
    columns = rng.integers(0, 60, 90)
    right = [rng.choice(90, size=2, replace=False) for _ in queries]
    order = numpy.argsort(-(queries @ items.T)[:, columns], axis=1, kind="stable")
    wanted = [min(list(row).index(own) for own in some) for row, some in zip(order, right, strict=True)]
    assert places(queries, items, right, columns)[0].tolist() == wanted


def test_unreadable_images_are_counted_and_a_limit_draws_the_same(clip, folder, tmp_path):
    root, _ = folder
    (root / "3.png").write_bytes(b"no picture")
    result = run_retrieval(clip, root, ALONE, tmp_path / "features")
    assert result.cells[0].skipped == {"unreadable_image": 1}
    assert not any(found.key.split()[0] == "3" for found in result.cells[0].predictions)
    some, again = (run_retrieval(clip, root, ALONE, tmp_path / "features", limit=20) for _ in range(2))
    assert some == again
    assert sum("caption" not in found.key for found in some.cells[0].predictions) in (19, 20)


def test_karpathys_layout_is_read(clip, folder, tmp_path):
    root, lines = folder
    (root / "queries.jsonl").unlink()
    (root / "images").mkdir()
    entries = []
    for line in lines:
        (root / line["image"]).rename(root / "images" / line["image"])
        sentences = [{"raw": text} for text in line["answers"]]
        entries.append({"filename": line["image"], "split": "test", "sentences": sentences})
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": entries}))
    result = run_retrieval(clip, root, ALONE, tmp_path / "features")
    for line in lines:
        line["image"] = f"images/{line['image']}"
    assert values(result) == pytest.approx(plain_reference(clip, root, lines), abs=1e-12)


def test_what_cannot_be_retrieved_is_refused(clip, folder, tmp_path):
    root, _ = folder
    (tmp_path / "empty").mkdir()
    for model, path, message in [
        (clip, tmp_path / "empty", "queries.jsonl"),
        ("ViT-B-32", root, "MODEL/WEIGHTS"),
        ("ViT-B-32/no-such-tag", root, "open_clip"),
        ("local-dir:/nowhere", root, "open_clip"),
    ]:
        with pytest.raises(ConfigError, match=message):
            run_retrieval(model, path, ALONE, tmp_path / "features")
    (tmp_path / "other").mkdir()
    write_open_clip(tmp_path / "other" / "clip")  # of 64 tokens, with open_clip's own tokenizer
    with pytest.raises(ConfigError, match="64 tokens"):
        run_retrieval(f"local-dir:{tmp_path / 'other' / 'clip'}", root, ALONE, tmp_path / "features")
    assert split_name("ViT-B-32//a/file.pt") == ("ViT-B-32", "/a/file.pt")
