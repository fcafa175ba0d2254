"""The ``openflamingo`` style is OpenFlamingo 2.0.1: its weights, its logits and its gradients."""

import pytest
import torch

from flamingo_ds.checkpoint.openflamingo_names import openflamingo_table
from flamingo_ds.model.decoder_blocks import BLOCK_PATHS
from tests.parity.peers import EOC, IMAGE, as_ours, openflamingo

pytestmark = pytest.mark.parametrize("family", ["llama", "opt", "gpt_neox", "mpt"])
# Text before the first image, two images in a row, a long tail; and one image with padding behind it.
IDS = torch.tensor(
    [[5, 6, IMAGE, 7, 8, EOC, IMAGE, IMAGE, 9, 10, 11, EOC], [IMAGE, 6, 7, EOC, 11, 12, 13, 0, 0, 0, 0, 0]]
)
MASK = (IDS != 0).long()


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 1, 3, 16, 16, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("every", [1, 2])
def test_logits(family, every):
    theirs = openflamingo(family, every)
    ours, pixels = as_ours(theirs, family, every), inputs()
    assert [int(index) for index in ours.gated_cross_attention] == list(range(every - 1, 3, every))
    wanted = theirs(pixels, IDS, MASK).logits
    found = ours(IDS, MASK, pixels, torch.tensor([3, 1])).logits
    # They encode the padding image too, which nobody sees. Measured 4e-6 on logits of order 10.
    assert torch.allclose(found[MASK > 0], wanted[MASK > 0], rtol=0, atol=1e-5)
    # That the images weigh in it: others change logits by far more.
    other = ours(IDS, MASK, pixels.flip(-1), torch.tensor([3, 1])).logits
    assert (other - found)[0, 2:].abs().amax(-1).min() > 1e-3


def test_gradients(family):
    theirs = openflamingo(family, 2)
    ours, pixels = as_ours(theirs, family, 2), inputs()
    labels = IDS.masked_fill((MASK == 0) | (IDS == IMAGE), -100)
    theirs(pixels, IDS, MASK, labels=labels).loss.backward()
    # Without logits the loss is computed in chunks, as in training.
    ours(IDS, MASK, pixels, torch.tensor([3, 1]), labels=labels, return_logits=False).loss.backward()
    wanted = {
        name: parameter.grad
        for name, parameter in theirs.named_parameters(remove_duplicate=False)
        if not name.startswith("vision_") and parameter.grad is not None
    }
    found = dict(ours.named_parameters())
    wanted = openflamingo_table(BLOCK_PATHS[family]).to_ours(wanted)
    assert {name for name in found if not name.startswith("vision_model.")} <= wanted.keys()  # tied heads twice
    for name in found.keys() & wanted.keys():
        grad = wanted[name]
        # fp32 sums in another order through three blocks, relative to the largest gradient of the tensor; a bias of
        # keys has none at all but rounding.
        assert torch.allclose(found[name].grad, grad, rtol=0, atol=1e-7 + 1e-4 * float(grad.abs().max())), name
