"""bf16 on a processor that has none, at the speed of fp32: for its numbers, which hardware would round alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default}


class RoundedProducts(TorchDispatchMode):
    """Products of bf16 matrices, within the block, are made of fp32 ones: exact products, summed in fp32, rounded once.

    That is what a processor or GPU with bf16 does. PyTorch's own way without such hardware rounds alike, ten times
    slower and more. What is not a product of matrices is left as it is.
    """

    def __torch_dispatch__(
        self,
        func: Any,  # of torch's own kind
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _PRODUCTS and all(each.dtype == torch.bfloat16 for each in args if isinstance(each, Tensor)):
            return func(*tree_map_only(Tensor, Tensor.float, args), **kwargs).bfloat16()
        return func(*args, **kwargs)
