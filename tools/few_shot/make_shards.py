"""Write what a proof's run trains on: interleaved pages of digits under invented names, as webdataset shards.

OUT/clean-NNN.tar hold pages of clear images, OUT/noisy-NNN.tar of noisy ones: ``KEY.json`` with ``texts`` and
``images``, ``KEY.0.png``, ... All images are of the training split; the digits held out are on none of them.
"""

import argparse
import io
import json
import random
import sys
from pathlib import Path

import numpy
import webdataset
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from few_shot.digits import held_out_digits, load_splits
from few_shot.episodes import Episode, EpisodeRules

PAGES_PER_SHARD = 500
SHOTS = 10
"""Examples on each page, with one more image behind them."""
AS_THEY_ARE = 0.2
"""Share of pages with digits the right way up."""
WAYS = (2, 3, 4, 5)
NOISE = 0.6
"""Of the noisy pages at most; each has its own."""


def main() -> int:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the shards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pages", type=int, default=4000, help="of each of the two datasets")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    held_out = held_out_digits(options.seed)
    train = load_splits(options.seed)["train"].only([digit for digit in range(10) if digit not in held_out])
    for name, noise in (("clean", 0.0), ("noisy", NOISE)):
        rng = random.Random(f"{name} {options.seed}")
        episodes = [rules(rng, noise).draw(train, rng.getrandbits(63)) for _ in range(options.pages)]
        write(options.out, name, [page(episode) for episode in episodes])
    print(f"{options.pages} clean and {options.pages} noisy pages; held out: {held_out}")
    return 0


def rules(rng: random.Random, noise: float) -> EpisodeRules:
    """Of a training page, with noise of at most so much."""
    return EpisodeRules(
        rng.choice(WAYS),
        SHOTS,
        balanced=False,
        noise=noise * rng.random(),
        as_they_are=AS_THEY_ARE,
        for_evaluation=False,
    )


def page(episode: Episode) -> dict[str, bytes]:
    """Each image, then its name; the query is the last."""
    texts: list[str | None] = []
    images: list[int | None] = []
    shown = [*episode.examples, (episode.query, episode.answer)]
    for number, (_, name) in enumerate(shown):
        texts += [None, name]
        images += [number, None]
    content = json.dumps({"texts": texts, "images": images}).encode()
    return {"json": content} | {f"{number}.png": png(image) for number, (image, _) in enumerate(shown)}


def png(image: numpy.ndarray) -> bytes:
    """(8, 8) uint8 as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def write(out: Path, name: str, pages: list[dict[str, bytes]]) -> None:
    """Cut pages into tars."""
    for shard, start in enumerate(range(0, len(pages), PAGES_PER_SHARD)):
        with webdataset.TarWriter(str(out / f"{name}-{shard:03d}.tar")) as tar:
            for number, content in enumerate(pages[start : start + PAGES_PER_SHARD], start):
                tar.write({"__key__": f"{name}-{number:05d}", **content})


if __name__ == "__main__":
    sys.exit(main())
