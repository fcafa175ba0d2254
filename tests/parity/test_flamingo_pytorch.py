"""flamingo-pytorch 0.1.2: its resampler and gated block are ours in ``openflamingo`` style where both define the same.

Where they do not: its GatedCrossAttentionBlock has one width for text and media; its resampler adds an embedding to
each *image* by its place in the prompt (ours: to each frame of a video, none here), and for more images than it has
embeddings it fails; its activation is the GELU, the paper's the squared ReLU; it stands behind an LM block, the
paper's before it. The last test shows the second and the third.
"""

import pytest
import torch

from flamingo_ds.checkpoint.openflamingo_names import openflamingo_table
from flamingo_ds.model.build_layers import build_gated_block, build_resampler
from flamingo_ds.model.media_mask import media_ids_from, media_view
from tests.parity.peers import draw
from tests.tiny import tiny_config

WIDTH, IMAGE = 32, 9
IDS = torch.tensor([[1, IMAGE, 2, 3, IMAGE, 4, 5], [IMAGE, IMAGE, 1, 1, 1, 1, 1]])


def config(style="openflamingo", **changes):
    shape = {"resampler_heads": 8, "resampler_head_width": 64, "resampler_latents": 5, "resampler_depth": 2}
    return tiny_config(style=style, max_frames=0, **(shape | changes))


def load(module, theirs, ours_prefix, theirs_prefix):
    state = {f"{theirs_prefix}{name}": tensor for name, tensor in theirs.state_dict().items()}
    renamed = openflamingo_table("blocks").to_ours(state)
    module.load_state_dict({name.removeprefix(ours_prefix): tensor for name, tensor in renamed.items()})
    return module


def resamplers(style="openflamingo"):
    from flamingo_pytorch import PerceiverResampler

    torch.manual_seed(0)
    theirs = PerceiverResampler(dim=WIDTH, depth=2, num_latents=5, num_media_embeds=2)
    draw(theirs)
    places = theirs.media_pos_emb.detach().clone()
    with torch.no_grad():
        theirs.media_pos_emb.zero_()
    state = {f"perceiver.{name}": tensor for name, tensor in theirs.state_dict().items() if name != "media_pos_emb"}
    ours = build_resampler(config(style))
    renamed = openflamingo_table("blocks").to_ours(state)
    ours.load_state_dict({name.removeprefix("resampler."): tensor for name, tensor in renamed.items()})
    return theirs, ours, places


@torch.no_grad()
def test_resampler():
    theirs, ours, _ = resamplers()
    features = torch.randn(2, 2, 7, WIDTH)
    wanted = theirs(features).flatten(0, 1)
    # fp32 sums in another order, values of order 1.
    assert torch.allclose(ours(features.flatten(0, 1).unsqueeze(1)), wanted, rtol=0, atol=1e-5)


def test_gated_block_with_its_gradients():
    from flamingo_pytorch import GatedCrossAttentionBlock

    torch.manual_seed(0)
    theirs = GatedCrossAttentionBlock(dim=WIDTH)
    draw(theirs)
    ours = load(
        build_gated_block(config()), theirs, "gated_cross_attention.0.", "lang_encoder.blocks.0.gated_cross_attn_layer."
    )
    results = []
    for by_image in (None, True, False):
        hidden, media = torch.randn(2, 7, WIDTH, generator=seeded()), torch.randn(2, 2, 5, WIDTH, generator=seeded())
        hidden.requires_grad_(True)
        media.requires_grad_(True)
        if by_image is None:
            out = theirs(hidden, media, media_locations=IDS == IMAGE)
        else:
            out = ours(hidden, media, media_view(media_ids_from(IDS, IMAGE), 2, 5, by_image=by_image))
        out.square().sum().backward()
        results.append((out, hidden.grad, media.grad))
    for found in results[1:]:
        for one, other in zip(found, results[0], strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)  # fp32 sums of values of order 10


@torch.no_grad()
def test_where_the_definitions_differ():
    theirs, ours, places = resamplers()
    features = torch.randn(2, 2, 7, WIDTH)
    plain = ours(features.flatten(0, 1).unsqueeze(1))
    theirs.media_pos_emb.copy_(places)
    assert not torch.allclose(
        theirs(features).flatten(0, 1), plain, rtol=0, atol=1e-3
    )  # an image's place in the prompt
    _, paper, _ = resamplers("paper")
    assert not torch.allclose(paper(features.flatten(0, 1).unsqueeze(1)), plain, rtol=0, atol=1e-3)  # squared ReLU
    with pytest.raises(RuntimeError):
        theirs(torch.randn(1, 3, 7, WIDTH))  # three images, two embeddings


def seeded():
    return torch.Generator().manual_seed(4)
