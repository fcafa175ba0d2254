"""What a conversion writes, planned before a byte is: every tensor as an ordered list of pieces of what is there.

Pieces lie one behind the other along the first dimension, as memory-mapped tensors of the sources: a merged embedding
is the LM's rows with the new tokens' between them, a fused projection two pieces, a split one a slice of one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...config import ConfigError
from ...model import FlamingoForConditionalGeneration
from ..stored_tensor import StoredTensor

Pieces = Callable[[], list[StoredTensor]]
ReadStored = Callable[[str], StoredTensor]


@dataclass(frozen=True)
class Output:
    """One tensor of the result.

    Attributes:
        name: in the result.
        dtype, shape: of the result.
        pieces: where its content comes from; asked for when its turn comes.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Pieces

    @property
    def nbytes(self) -> int:
        """Bytes of its content."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


def merged_outputs(model: FlamingoForConditionalGeneration, read: ReadStored, dtype: torch.dtype) -> list[Output]:
    """The tensors of a model whose new tokens' rows are merged into its LM.

    Args:
        model: without memory; merged in place, which gives the names and shapes to be.
        read: the weights of the model before the merge, by canonical name.
        dtype: of all parameters; buffers keep theirs.
    """
    spliced = _splices(model, read)
    model.merge_new_tokens()
    parameters = dict(model.named_parameters())
    outputs = []
    for name, parameter in parameters.items():
        pieces = spliced.get(name) or _one(read, name)
        outputs.append(Output(name, dtype, tuple(parameter.shape), pieces))
    for name, buffer in _persistent_buffers(model).items():
        outputs.append(
            Output(name, buffer.dtype, tuple(buffer.shape), lambda buffer=buffer: [StoredTensor.plain(buffer)])
        )  # type: ignore[misc]
    return outputs


def check_outputs(outputs: Iterable[Output], shapes: Mapping[str, torch.Size], what: str) -> None:
    """Hold what will be written against what a model asks for.

    Raises:
        ConfigError: the first name that is missing or too much, or of another shape.
    """
    planned = {output.name: torch.Size(output.shape) for output in outputs}
    if odd := sorted(planned.keys() ^ shapes.keys()):
        raise ConfigError(
            "tensors", odd[0], f"the names of {what}; it is only in {'the plan' if odd[0] in planned else what}"
        )
    for name, shape in shapes.items():
        if planned[name] != shape:
            raise ConfigError("tensors", name, f"{tuple(shape)} as in {what}, not {tuple(planned[name])}")


def asked_for(model: nn.Module) -> dict[str, torch.Tensor]:
    """What ``from_pretrained`` looks for: parameters and persistent buffers, a tied weight once."""
    names = {name for name, _ in model.named_parameters()}
    second = {name for name, _ in model.named_parameters(remove_duplicate=False)} - names
    return {name: tensor for name, tensor in model.state_dict().items() if name not in second}


def row_blocks(output: Output, count: int, order: Sequence[int]) -> Pieces:
    """A tensor's rows as ``count`` equal blocks, those of ``order`` one behind the other.

    A fused projection is split, and a grouped head repeated, without being in memory.
    """
    size, pieces = output.shape[0] // count, output.pieces
    return lambda: [part for block in order for part in _rows(pieces(), block * size, (block + 1) * size)]


def _rows(pieces: Iterable[StoredTensor], first: int, end: int) -> list[StoredTensor]:
    found, start = [], 0
    for piece in pieces:
        rows = piece.rows(max(first - start, 0), max(end - start, 0))
        if rows.shape[0]:
            found.append(rows)
        start += piece.shape[0]
    return found


def _one(read: ReadStored, name: str) -> Pieces:
    return lambda: [read(name)]


def _splices(model: FlamingoForConditionalGeneration, read: ReadStored) -> dict[str, Pieces]:
    """Pieces of the LM's embedding and head with the new tokens' rows in their place."""
    new_embedding, new_head = model.new_token_embedding, model.new_token_head
    if new_embedding is None or new_head is None:
        return {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    first, count = model.config.first_new_token_id, model.config.num_new_tokens
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()

    def spliced(known: str, rows: str) -> Pieces:
        def pieces() -> list[StoredTensor]:
            whole = read(known)
            return [whole.rows(0, first), read(rows), whole.rows(first + count)]

        return pieces

    found = {names[id(embedding.weight)]: spliced(names[id(embedding.weight)], names[id(new_embedding.weight)])}
    if head.weight is not embedding.weight:
        found[names[id(head.weight)]] = spliced(names[id(head.weight)], names[id(new_head.weight)])
    if head.bias is not None:
        name = names[id(head.bias)]
        found[name] = lambda: [
            (bias := read(name)).rows(0, first),
            StoredTensor.plain(torch.zeros(count, dtype=bias.dtype)),
            bias.rows(first + count),
        ]
    return found


def _persistent_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in parameters}
