"""Indices and retrieval: two ranks give what one gives, bit for bit."""

import json
import shutil

import numpy
import torch.distributed as dist
from PIL import Image

from flamingo_ds.evaluation.retrieval import run_retrieval
from flamingo_ds.evaluation.rices import index
from flamingo_ds.parallel.launch import Launch

from ..tiny import IMAGE_SIZE, write_open_clip

WORDS = ("red", "green", "blue", "dark", "bright", "small", "round", "old")


def retrieve(folder, features):
    index.BLOCK = 16
    launch = Launch(dist.get_rank(), dist.get_rank(), dist.get_world_size(), "127.0.0.1", 0)
    return run_retrieval(f"local-dir:{folder / 'clip'}", folder / "data", launch, features)


def features_of(folder):
    (found,) = folder.iterdir()
    return {path.name: path.read_bytes() for path in sorted(found.glob("*.npy"))}


def test_retrieval_is_the_same_on_one_rank_and_on_two(pools, tmp_path):
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    write_open_clip(tmp_path / "clip", text_cfg=text)
    (tmp_path / "data").mkdir()
    rng, lines = numpy.random.default_rng(0), []
    for number in range(70):
        pixels = rng.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
        captions = [f"{' '.join(rng.choice(WORDS, 3))} {number}-{again}" for again in range(5)]
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "answers": captions}))
    (tmp_path / "data" / "queries.jsonl").write_text("\n".join(lines))
    (alone,) = pools.run(1, retrieve, tmp_path, tmp_path / "one")
    both = pools.run(2, retrieve, tmp_path, tmp_path / "two")
    assert both == [alone, alone]
    assert features_of(tmp_path / "one") == features_of(tmp_path / "two")
    assert len(features_of(tmp_path / "two")) == 5
    # Interrupted after a rank's first blocks, and gone on with by one rank alone.
    shutil.copytree(tmp_path / "two", tmp_path / "part")
    for path in sorted((tmp_path / "part").glob("*/*.npy"))[1:4]:
        path.unlink()
    assert pools.run(1, retrieve, tmp_path, tmp_path / "part") == [alone]
    assert features_of(tmp_path / "part") == features_of(tmp_path / "one")
