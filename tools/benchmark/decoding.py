"""Three ways from a JPEG in a shard to pixels: bare Pillow, ours, and OpenFlamingo's for MMC4."""

import base64
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy
import torch
import webdataset
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import CLIPImageProcessor, PreTrainedTokenizerFast

from flamingo_ds.config import BatchPlan, DatasetConfig
from flamingo_ds.config.schema import MediaRule, SampleFormat
from flamingo_ds.data import Mixture, Tokens
from flamingo_ds.data.bad_samples import BadSampleLog
from flamingo_ds.data.build import build_decoder
from flamingo_ds.data.dataset import ShardDataset
from flamingo_ds.data.image_transform import ImageTransform
from flamingo_ds.data.packing import Packing
from flamingo_ds.data.shards import expand_shards
from flamingo_ds.data.stream import SampleStream
from flamingo_ds.data.workers import DecodePool

BATCH = 32


def tokens() -> Tokens:
    """A tokenizer of single letters, one token a word."""
    words = {word: index for index, word in enumerate(["<unk>", "<pad>", "<s>", *"abcdefgh"])}
    backend = Tokenizer(WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>")
    tokenizer.add_tokens(["<image>", "<EOC>"], special_tokens=True)
    image, eoc = tokenizer.convert_tokens_to_ids(["<image>", "<EOC>"])
    return Tokens(tokenizer, image, eoc)


def processor(side: int) -> CLIPImageProcessor:
    """CLIP's image processor at another size."""
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def write_shards(folder: Path, files: list[bytes], texts: list[str]) -> None:
    """The same pictures as pairs, and as MMC4 pages with their bytes in the json."""
    with (
        webdataset.TarWriter(str(folder / "pairs.tar"), mtime=0) as pairs,
        webdataset.TarWriter(str(folder / "pages.tar"), mtime=0) as pages,
    ):
        for number, (content, text) in enumerate(zip(files, texts, strict=True)):
            pairs.write({"__key__": f"{number:06}", "jpg": content, "txt": text})
            info = {"image_base64": base64.b64encode(content).decode(), "matched_text_index": 0, "matched_sim": 0.3}
            page = json.dumps({"text_list": [text], "image_info": [info]}).encode()
            pages.write({"__key__": f"{number:06}", "json": page})


def mixture(folder: Path, side: int, workers: int, **switches: Any) -> Mixture:
    """Ours, end to end, of the pairs."""
    config = DatasetConfig(SampleFormat.image_text, str(folder / "pairs.tar"), batch_size=BATCH, **switches)
    pool = DecodePool(workers)
    transform = ImageTransform.of(processor(side))
    pool.register("pairs", build_decoder(config, tokens(), transform, MediaRule.last))
    stream = SampleStream(expand_shards("shards", config.shards), 0, 1, 0, config.shuffle_buffer)
    packing = Packing(config.max_tokens, config.max_images) if config.pack else None
    dataset = ShardDataset("pairs", stream, pool, BadSampleLog("pairs", 0.1, None), packing, ahead=BATCH)
    return Mixture([dataset], [BatchPlan("pairs", BATCH, BATCH, 1)], [1.0], pool)


def bare_pillow(files: list[bytes], side: int) -> Iterator[numpy.ndarray]:
    """The floor: decode, resize the shorter side, cut out the middle; no text, no tensor."""
    for content in files:
        yield pillow_pixels(content, side)


def pillow_pixels(content: bytes, side: int) -> numpy.ndarray:
    """(side, side, 3) uint8 with nothing but Pillow."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    short = min(image.size)
    image = image.resize((side * image.width // short, side * image.height // short), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return numpy.asarray(image.crop((left, top, left + side, top + side)))


def openflamingo(folder: Path, side: int) -> Iterator[torch.Tensor]:
    """As OpenFlamingo 2.0 reads MMC4: base64 in json, Pillow, open_clip's transform of PIL images, padded ids."""
    from torchvision import transforms

    words = tokens()
    mean, std = processor(side).image_mean, processor(side).image_std
    transform = transforms.Compose(
        [
            transforms.Resize(side, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
            lambda image: image.convert("RGB"),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    with tarfile.open(folder / "pages.tar") as archive:
        while True:
            batch = []
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                page = json.loads(content.read())
                image = Image.open(io.BytesIO(base64.b64decode(page["image_info"][0]["image_base64"])))
                text = f"<image>{page['text_list'][0]}<EOC>"
                words.tokenizer(text, padding="max_length", max_length=256, return_tensors="pt")
                batch.append(transform(image))
                if len(batch) == BATCH:
                    yield torch.stack(batch)
                    batch = []


def seconds_of(take: Callable[[], object]) -> float:
    """CPU seconds of this process: other people's work on the machine is not counted."""
    began = time.process_time()
    take()
    return time.process_time() - began


def exhaust(iterator: Iterator[Any], count: int) -> Callable[[], None]:
    """Take so many items."""

    def take() -> None:
        for _ in islice(iterator, count):
            pass

    return take
