"""A model that is built without memory, then filled tensor by tensor, each one placed where its layout wants it.

A skeleton has its parameters on the meta device and its buffers (rotary frequencies, position ids) as they are. What a
parameter starts with is asked for by its canonical name, when its place is ready and not before, so a rank never holds
more than its own share and the tensor under way.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.overrides import TorchFunctionMode

ReadWeight = Callable[[str], torch.Tensor]
"""A parameter's (or persistent buffer's) initial value by its canonical name, on the CPU, in its source's dtype."""


class _EmptyOnMeta(TorchFunctionMode):
    """What is still to be given values, as parameters are, asks for no memory even for a moment; buffers have values.

    A matrix of gigabytes would otherwise be asked for whole, which a limit on memory (RLIMIT_DATA) refuses.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is torch.empty and named.get("device") is None:
            named = {**named, "device": "meta"}
        return func(*args, **named)


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules that are built while this is open have parameters without memory; their buffers are real.

    ``torch.device("meta")`` would take the buffers as well, and those that no checkpoint holds could not be had back.
    """
    usual = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        usual(module, name, parameter)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        with _EmptyOnMeta():
            yield
    finally:
        nn.Module.register_parameter = usual  # type: ignore[method-assign]


Slot = tuple[nn.Module, str]


def parameter_slots(model: nn.Module, prefix: str = "") -> dict[str, list[Slot]]:
    """Canonical name of every parameter -> the modules and attributes that hold it (several where it is tied)."""
    slots: dict[int, list[Slot]] = {}
    names: dict[int, str] = {}
    for path, module in model.named_modules(prefix=prefix):
        for name, parameter in module.named_parameters(recurse=False):
            slots.setdefault(id(parameter), []).append((module, name))
            names.setdefault(id(parameter), f"{path}.{name}" if path else name)
    return {names[key]: holders for key, holders in slots.items()}


def hold(slots: Iterable[Slot], tensor: torch.Tensor) -> nn.Parameter:
    """Put a parameter with this value into all of its slots; whether it trains stays as it was."""
    holders = list(slots)
    trains = getattr(*holders[0]).requires_grad
    parameter = nn.Parameter(tensor, requires_grad=trains)
    for module, name in holders:
        module.register_parameter(name, parameter)
    return parameter


class Filler:
    """Reads weights for the ranks of one group: its first rank reads, the others are sent what it read.

    Args:
        read: by canonical name; called on the group's first rank only.
        dtype: of all parameters; None keeps each one's own.
        device: where they go.
        group: ranks that hold the same weights; None for a process that reads for itself.
    """

    def __init__(
        self,
        read: ReadWeight,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        group: dist.ProcessGroup | None = None,
    ) -> None:
        self.read, self.dtype, self.device, self.group = read, dtype, device, group
        self.reads = group is None or dist.get_rank(group) == 0

    def tensor(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """The value of a parameter, a copy of its own, of the shape of ``like``; elsewhere NaN until it is sent.

        Raises:
            ValueError: the source has another shape.
        """
        dtype = self.dtype if like.is_floating_point() and self.dtype is not None else None
        if not self.reads:
            return torch.full(like.shape, torch.nan, dtype=dtype or like.dtype, device=self.device)
        value = self.read(name)
        if value.shape != like.shape:
            raise ValueError(f"{name} is {tuple(value.shape)} in its source; expected {tuple(like.shape)}")
        return value.detach().to(self.device, dtype or value.dtype, copy=True)

    def fill(self, model: nn.Module, prefix: str = "", send: bool = True) -> None:
        """Give every parameter that has no memory its value.

        Args:
            model: changed in place.
            prefix: of its names.
            send: to the group's other ranks, unless whoever comes next does (``deepspeed.initialize``).
        """
        for name, slots in parameter_slots(model, prefix).items():
            empty = getattr(*slots[0])
            if empty.is_meta:
                value = self.tensor(name, empty)
                if send and self.group is not None:
                    dist.broadcast(value, group=self.group, group_src=0)
                hold(slots, value)
