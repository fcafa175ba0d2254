"""Pairs, pages and videos with 62 broken inputs among good ones: the run ends well and its counts are right.

Every input is made from a good one. Counts are held by dataset, shard, key and kind over the lines of
``bad_samples.jsonl``, and the metrics against their number.
"""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import av
import numpy
import pytest

from .conftest import Road, tiny_image

ROOT = Path(__file__).parents[2]
Members = list[tuple[str, bytes]]


def encoded(kind: str = "JPEG", size: tuple[int, int] = (64, 64), number: int = 0) -> bytes:
    file = io.BytesIO()
    tiny_image(number).resize(size).save(file, kind)
    return file.getvalue()


def film(seconds: int = 2) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 64
        for number in range(4 * seconds):
            frame = av.VideoFrame.from_ndarray(numpy.full((64, 64, 3), 9 * number, numpy.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def flipped(content: bytes, place: int, length: int = 4) -> bytes:
    return content[:place] + bytes(byte ^ 0xFF for byte in content[place : place + length]) + content[place + length :]


JPEG, PNG, WEBP, FILM = encoded(), encoded("PNG"), encoded("WEBP"), film()
TEXT = b"a picture of a red square"


def broken_pairs() -> dict[str, tuple[str, Members]]:
    """Key to kind and members."""

    def image(content: bytes, suffix: str = "jpg") -> Members:
        return [(suffix, content), ("txt", TEXT)]

    def text(content: bytes, suffix: str = "txt") -> Members:
        return [("jpg", JPEG), (suffix, content)]

    return {
        "jpeg-half": ("truncated_image", image(JPEG[: len(JPEG) // 2])),
        "jpeg-without-end": ("truncated_image", image(JPEG[:-2])),
        "jpeg-header-alone": ("truncated_image", image(JPEG[:300])),
        "png-half": ("truncated_image", image(PNG[: len(PNG) // 2], "png")),
        "png-crc": ("unreadable_image", image(flipped(PNG, 29), "png")),
        "webp-half": ("unreadable_image", image(WEBP[:20], "webp")),
        "empty": ("unreadable_image", image(b"")),
        "one-byte": ("unreadable_image", image(b"\xff")),
        "zeros": ("unreadable_image", image(bytes(4000))),
        "html": ("unreadable_image", image(b"<html>404</html>")),
        "svg": ("unreadable_image", image(b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
        "gzip": ("unreadable_image", image(gzip.compress(JPEG))),
        "video-as-image": ("unreadable_image", image(FILM)),
        "tiny": ("too_small", image(encoded(size=(15, 40)))),
        "one-pixel": ("too_small", image(encoded("PNG", (1, 1)), "png")),
        "wide": ("too_long_a_shape", image(encoded(size=(100, 20)))),
        "bomb": ("too_large_image", image(encoded("PNG", (20_000, 20_000)), "png")),
        "latin-1": ("undecodable_text", text("café".encode("latin-1"))),
        "utf-16": ("undecodable_text", text("a cat".encode("utf-16"))),
        "half-character": ("undecodable_text", text("é".encode()[:1])),
        "half-surrogate": ("undecodable_text", text(b'{"caption": "\\ud800"}', "json")),
        "no-text": ("no_text", text(b"")),
        "blank": ("no_text", text(b" \n\t ")),
        "null-caption": ("no_text", text(b'{"caption": null}', "json")),
        "broken-json": ("broken_json", text(b'{"caption": "a', "json")),
        "json-list": ("broken_json", text(b"[]", "json")),
        "image-alone": ("missing_pair", [("jpg", JPEG)]),
        "text-alone": ("missing_pair", [("txt", TEXT)]),
        "other-suffix": ("missing_pair", [("tiff", JPEG), ("txt", TEXT)]),
        "twice": ("duplicate_member", [("jpg", JPEG), ("jpg", JPEG), ("txt", TEXT)]),
        "../climbing": ("climbing_path", image(JPEG)),
        "/absolute": ("climbing_path", image(JPEG)),
    }


def broken_pages() -> dict[str, tuple[str, Members]]:
    def page(content: object, *images: bytes) -> Members:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return [*((f"{number}.jpg", image) for number, image in enumerate(images)), ("json", raw)]

    good = {"texts": [None, "a blue circle"], "images": [0, None]}
    mmc4 = {"text_list": ["a blue circle"], "image_info": [{"matched_text_index": 0}]}
    return {
        "no-json": ("missing_pair", [("0.jpg", JPEG)]),
        "half-json": ("broken_json", page(json.dumps(good).encode()[:-5], JPEG)),
        "unequal": ("broken_json", page({**good, "images": [0]}, JPEG)),
        "both": ("broken_json", page({"texts": ["a"], "images": [0]}, JPEG)),
        "number-as-text": ("broken_json", page({"texts": [None, 5], "images": [0, None]}, JPEG)),
        "deep": ("broken_json", page(b"[" * 100_000, JPEG)),
        "bytes": ("undecodable_text", page(b'{"texts": ["\xff"]}', JPEG)),
        "no-images": ("no_image", page({"texts": ["a"], "images": [None]})),
        "no-texts": ("no_text", page({"texts": [None], "images": [0]}, JPEG)),
        "absent": ("missing_pair", page(good)),
        "small": ("too_small", page(good, encoded(size=(8, 8)))),
        "damaged": ("truncated_image", page(good, JPEG[: len(JPEG) // 2])),
        "mmc4-index": ("broken_json", page({**mmc4, "image_info": [{"matched_text_index": 7}]}, JPEG)),
        "mmc4-base64": (
            "unreadable_image",
            page({**mmc4, "image_info": [{"matched_text_index": 0, "image_base64": "?"}]}),
        ),
        "../page": ("climbing_path", page(good, JPEG)),
    }


def broken_videos() -> dict[str, tuple[str, Members]]:
    def video(content: bytes) -> Members:
        return [("mp4", content), ("txt", TEXT)]

    return {
        "empty": ("unreadable_video", video(b"")),
        "half": ("unreadable_video", video(FILM[: len(FILM) // 2])),  # its index stands at the end
        "no-video": ("unreadable_video", video(TEXT)),
        "video-alone": ("missing_pair", [("mp4", FILM)]),
        "text-alone": ("missing_pair", [("txt", TEXT)]),
        "no-text": ("no_text", [("mp4", FILM), ("txt", b"")]),
        "bad-frame": ("unreadable_image", [("0.jpg", JPEG), ("1.jpg", b""), ("txt", TEXT)]),
        "half-frame": ("truncated_image", [("0.jpg", JPEG), ("1.jpg", JPEG[:-2]), ("txt", TEXT)]),
    }


def good(dataset: str, number: int) -> Members:
    if dataset == "pairs":
        return [("jpg", encoded(number=number)), ("txt", TEXT)]
    if dataset == "videos":
        return [("mp4", FILM), ("txt", TEXT)]
    page = {"texts": [None, "a blue circle"], "images": [0, None]}
    return [("0.jpg", encoded(number=number)), ("json", json.dumps(page).encode())]


def write(path: Path, samples: dict[str, Members]) -> None:
    with tarfile.open(path, "w") as archive:
        for key, members in samples.items():
            for suffix, content in members:
                header = tarfile.TarInfo(f"{key}.{suffix}")
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counter[tuple[str, str, str, str]]]:
    """Shards, and what is wrong with them: dataset, shard, key, kind."""
    folder = tmp_path_factory.mktemp("corpus")
    expected: Counter[tuple[str, str, str, str]] = Counter()
    for dataset, broken in (("pairs", broken_pairs()), ("pages", broken_pages()), ("videos", broken_videos())):
        samples: dict[str, Members] = {}
        for number, (key, (kind, members)) in enumerate(broken.items()):
            samples[f"good-{number}"] = good(dataset, number)
            samples[key] = members
            expected[dataset, f"{dataset}-0.tar", key, kind] += 1
        write(folder / f"{dataset}-0.tar", samples)
    # Whole shards: cut, overwritten in the middle, no tar, empty, a cut gzip, one that is not there when it is wanted.
    whole = {f"good-{number}": good("pairs", number) for number in range(6)}
    for shard in range(1, 7):
        write(folder / f"pairs-{shard}.tar", whole)
    content = (folder / "pairs-1.tar").read_bytes()
    (folder / "pairs-1.tar").write_bytes(content[: len(content) // 2])
    (folder / "pairs-2.tar").write_bytes(content[:4096] + b"x" * 512 + content[4608:])
    (folder / "pairs-3.tar").write_bytes(b"garbage" * 500)
    (folder / "pairs-4.tar").write_bytes(b"")
    (folder / "pairs-5.tar").write_bytes(gzip.compress(content)[:2000])
    for shard in range(1, 6):
        expected["pairs", f"pairs-{shard}.tar", "", "broken_tar"] += 1
    expected["pairs", "sh -c 'exit 7'", "", "missing_shard"] += 1
    expected["pairs", "sleep 30", "", "missing_shard"] += 1
    return folder, expected


def test_a_run_over_them_ends_well_with_the_right_counts(
    road: Road, corpus: tuple[Path, Counter[tuple[str, str, str, str]]], tmp_path: Path
) -> None:
    folder, expected = corpus
    assert expected.total() >= 40
    limits = "min_image_side: 16, max_image_aspect: 3"
    shards = json.dumps("{" + f"{folder}/pairs-{{0..6}}.tar" + ",pipe:sh -c 'exit 7',pipe:sleep 30}")
    run = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "flamingo_ds.train", "--recipe", str(road.recipe), f"run_dir={run}"),
        "data={max_bad_share: 1.0, retries: 1, retry_wait_s: 0.1, stall_s: 1.0, workers: 2, datasets: {"
        f"pairs: {{format: image_text, shards: {shards}, batch_size: 8, {limits}, pack: true, max_tokens: 64}}, "
        f"pages: {{format: interleaved, shards: {folder}/pages-0.tar, batch_size: 4, {limits}, random_window: true}}, "
        f"videos: {{format: video_text, shards: {folder}/videos-0.tar, batch_size: 2, frames: 2, max_images: 1}}}}}}",
        *("train.max_steps=12", "model.resampler.max_frames=2"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (run / "bad_samples.jsonl").read_text().splitlines()]
    found = Counter((line["dataset"], Path(line["shard"]).name, line["sample"], line["kind"]) for line in lines)
    named = {(dataset, shard.removeprefix("pipe:"), sample, kind) for dataset, shard, sample, kind in found}
    assert named == set(expected)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    by_kind = Counter((line["dataset"], line["kind"]) for line in lines)
    for (dataset, kind), count in by_kind.items():
        assert last[f"bad_samples/{dataset}/{kind}"] == count
    assert last["data_step"] == last["step"] == 12
    for dataset in ("pairs", "pages", "videos"):
        assert 0 < last[f"real_token_share/{dataset}"] <= 1
        assert last[f"bad_samples/{dataset}"] == sum(1 for line in lines if line["dataset"] == dataset)
