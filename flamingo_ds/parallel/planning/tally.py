"""Bytes of tensors while they live, by the part of the model that made them."""

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .repeated import put_back


@dataclass
class PartBytes:
    """One part of the model, a micro-batch.

    Attributes:
        kept: bytes from the part's forward to its backward pass, its output among them.
        forward: the most bytes at any moment of its forward pass, above what was there before.
        backward: the same of its backward pass, above what earlier parts and itself keep; the gradients of parameters
            as temporary copies only, as they are added to what is there.
    """

    kept: int = 0
    forward: int = 0
    backward: int = 0


class Tally(TorchDispatchMode):
    """Bytes of living storages, and the peaks of each part; ``there`` are tensors that do not count."""

    def __init__(self, there: Iterable[torch.Tensor | None]) -> None:
        super().__init__()
        self.live = 0
        self.passes: dict[tuple[str, bool], list[int]] = {}  # (part, backward) -> start, peak, end
        self.current: list[int] | None = None
        self.is_backward = False
        self.known = {tensor.untyped_storage()._cdata for tensor in there if tensor is not None}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return outputs

    def enter(self, part: str | None, backward: bool = False) -> None:
        """What follows belongs to a part, until the next call."""
        if self.is_backward and not backward and part is not None:
            return  # a block that is computed again belongs to its own backward pass
        self.is_backward = backward
        if self.current is not None:
            self.current[2] = self.live
        self.current = None if part is None else self.passes.setdefault((part, backward), [self.live, self.live, 0])

    def parts(self, stand_ins: Mapping[int, int], depth: int) -> tuple[dict[str, PartBytes], int]:
        """Parts and peak of the whole model, in the order of the forward pass.

        Behind a block that was taken out everything stands higher by what that block would have kept.
        """
        kept = {name: end - start for (name, backward), (start, _, end) in self.passes.items() if not backward}
        below = dict(zip(kept, accumulate(kept.values(), initial=0), strict=False))
        found: dict[str, PartBytes] = {}
        height = peak = 0
        for name, counted in put_back(kept, stand_ins, depth).items():
            part = found[name] = PartBytes(kept[counted])
            for backward in (False, True):
                start, highest, _ = self.passes.get((counted, backward), (0, 0, 0))
                peak = max(peak, highest + height - below[counted])
                if backward:
                    part.backward = highest - start
                else:
                    part.forward = highest - start
            height += part.kept
        return found, peak

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known or not storage.nbytes():
            return
        self.known.add(key)
        self.live += storage.nbytes()
        if self.current is not None:
            self.current[1] = max(self.current[1], self.live)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size
