"""A device that is not there: its tensors have true values, computed on the CPU, and refuse to meet tensors of the CPU.

`FakeTensorMode` has no values, so that a prediction or an explanation ends where it looks at one, and its backward pass
asks for a GPU. Within `pretend_gpu()` they run whole, forwards and backwards, with `device=DEVICE`. torch sees the
device "meta", which it has everywhere and for whose gradients it starts no thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = "meta"
_MOVES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)


class OnGpu(torch.Tensor):
    """A tensor on the pretended device; its values lie on the CPU."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), dtype=values.dtype, layout=values.layout, device=DEVICE
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Moving(TorchDispatchMode):
    """Sees what is moved to the device, or made there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Inside the block, `tensor.to(DEVICE)` moves to the device and `tensor.cpu()` back."""
    with _Moving():
        yield


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    """An operation on values, on the device where its tensors are or where it says; numbers without a dimension may
    come from the CPU, as torch allows it."""
    given = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    there = [one for one in given if isinstance(one, OnGpu)]
    if there and any(one.ndim for one in given if not isinstance(one, OnGpu)) and func.overloadpacket not in _MOVES:
        raise RuntimeError(f"{func}: tensors on the device and on the CPU")
    on_device = bool(there)
    if kwargs.get("device") is not None:
        on_device = torch.device(kwargs["device"]).type == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif func.overloadpacket is torch.ops.aten.copy_:
        on_device = isinstance(args[0], OnGpu)
    found = func(*tree_map(_values, args), **tree_map(_values, kwargs))
    owners = {id(one.values): one for one in there}  # an operation in place gives back the tensor that it changed
    return tree_map(lambda one: _on_device(one, owners), found) if on_device else found


def _values(one: Any) -> Any:
    return one.values if isinstance(one, OnGpu) else one


def _on_device(one: Any, owners: dict[int, OnGpu]) -> Any:
    if not isinstance(one, torch.Tensor):
        return one
    return owners[id(one)] if id(one) in owners else OnGpu(one)
