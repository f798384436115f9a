"""Counts transfers that make the host wait for the device, on any device: also on the CPU, where nothing waits."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

VALUES = (
    "item",
    "tolist",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "__contains__",
    "cpu",
    "numpy",
    "__array__",
)
"""Methods that hand a tensor's values to Python."""
SIZES = {
    "equal",
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "repeat_interleave",
}
"""Operations that return a Python value, or a size that depends on the data, as indexing with a mask does."""


class Transfers(ExitStack):
    """`with Transfers() as transfers: ...`; then `transfers.count`. A transfer of many values at once counts as one."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._inside = False
        """True inside a counted method, which may call others that would be counted."""

    def __enter__(self) -> Transfers:
        super().__enter__()
        self.enter_context(Methods(self))
        self.enter_context(Operations(self))
        return self

    def count_one(self) -> None:
        self.count += not self._inside


class Methods(TorchFunctionMode):
    def __init__(self, transfers: Transfers) -> None:
        super().__init__()
        self.transfers = transfers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (resolve_name(func) or "").rpartition(".")[2] not in VALUES or self.transfers._inside:
            return func(*args, **(kwargs or {}))
        self.transfers.count_one()
        self.transfers._inside = True
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.transfers._inside = False


class Operations(TorchDispatchMode):
    def __init__(self, transfers: Transfers) -> None:
        super().__init__()
        self.transfers = transfers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put_", "index_put") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name == "_local_scalar_dense" or name in SIZES or masked:
            self.transfers.count_one()
        return func(*args, **(kwargs or {}))
