import itertools
import json

import pytest
from PIL import Image

from flamingo_ds.config import EXIT_BAD_INPUT, EXIT_DONE
from tools.inspect_data import main
from tools.shards.sheet import COLOURS, NO_IMAGE, draw

from ...tiny import tiny_tokenizer
from ..data.conftest import TRANSFORM
from ..data.making import page, pair, picture, write_tar
from ..data.test_sequence import image, sequence_of


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def shards(tmp_path):
    samples = [pair(f"{n:03}", "a picture", picture(n, size=(40, 30 + n))) for n in range(5)]
    samples += [pair("bad", " "), pair("worse", image=b"no image")]
    write_tar(tmp_path / "a.tar", itertools.chain(*samples))
    (tmp_path / "b.tar").write_bytes(b"garbage" * 200)
    return tmp_path


def test_counts_lengths_sizes_and_bad_samples(shards, tokenizer, capsys):
    more = ["--format", "image_text", "--tokenizer", tokenizer]
    figures, sheet = shards / "figures.json", shards / "sheet.png"
    assert main([str(shards), *more, "--json", str(figures), "--sheet", str(sheet), "--show", "3"]) == EXIT_DONE
    found = json.loads(figures.read_text())
    assert (found["shards"], found["samples"], found["sequences"]) == (2, 7, 5)
    assert found["bad_samples"] == {"no_text": 1, "unreadable_image": 1, "broken_tar": 1}
    assert found["height"] == {"least": 30, "median": 32, "mean": 32, "most": 34}
    assert (found["images"]["most"], found["frames"]["most"]) == (1, 1)
    said = capsys.readouterr().out
    assert "2 shards, 7 samples looked at, 5 sequences" in said
    assert "unreadable_image" in said
    with Image.open(sheet) as drawn:
        assert drawn.width == 1200
        assert drawn.height > 3 * 150


def test_images_that_pages_go_without_are_counted(tmp_path, tokenizer):
    good = page("1", [None, "a", None], [0, None, 1], [picture(1), b""])
    path = write_tar(tmp_path / "a.tar", good)
    figures = tmp_path / "figures.json"
    more = ["--format", "interleaved", "--tokenizer", tokenizer, "--json", str(figures)]
    assert main([str(path), *more]) == EXIT_DONE
    assert json.loads(figures.read_text())["images_left_out"] == {"unreadable_image": 1}


def test_tokens_and_frames_have_the_colour_of_their_image(make_rules):
    class Decoder:
        rules = make_rules()

    sequence = sequence_of(Decoder.rules, ["red", image(7), "cat", image(9), "dog"])
    sequence.media = [TRANSFORM(media.decode()).permute(1, 2, 0)[None].numpy() for media in sequence.media]
    found = {colour for _, colour in draw([("1", sequence)], Decoder).convert("RGB").getcolors(1 << 20)}
    rgb = {tuple(bytes.fromhex(colour[1:])) for colour in (*COLOURS[:2], NO_IMAGE)}
    assert rgb <= found
    assert tuple(bytes.fromhex(COLOURS[2][1:])) not in found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "a recipe, or --format and --tokenizer"),
        (["--recipe", "none"], "none"),
        (["--recipe", "demo", "--dataset", "nothing"], "one of the recipe's: pairs, pages"),
        (["--format", "image_text", "--tokenizer", "/nowhere"], "a tokenizer: "),
    ],
)
def test_wrong_input_is_one_line(shards, capsys, arguments, expected):
    assert main([str(shards), *arguments]) == EXIT_BAD_INPUT
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert expected in line


def test_shards_without_a_usable_sample_are_refused(tmp_path, tokenizer, capsys):
    path = write_tar(tmp_path / "a.tar", pair("bad", " "))
    assert main([str(path), "--format", "image_text", "--tokenizer", tokenizer]) == EXIT_BAD_INPUT
    assert "at least one usable sample; no_text 1" in capsys.readouterr().err
