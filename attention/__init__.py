"""Attention as expressions. The module is itself callable: ``ag.attention(q, k, v, mask=…)``.

(The type-checkable name of the plain kind is `scaled_dot_product_attention`.)
"""

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

from .approximation import ErrorReport, attention_error
from .block_mask import BlockMask, and_masks, create_block_mask, noop_mask, or_masks
from .dot_product import attention, scaled_dot_product_attention
from .feature_maps import RandomFeatures, random_features
from .flex import flex_attention
from .linear import linear_attention
from .linear_state import LinearAttentionState
from .merging import merge_states
from .sparse_mask import SparseMask
from .topk import topk_attention

__all__ = [
    "BlockMask",
    "ErrorReport",
    "LinearAttentionState",
    "RandomFeatures",
    "SparseMask",
    "and_masks",
    "attention",
    "attention_error",
    "create_block_mask",
    "flex_attention",
    "linear_attention",
    "merge_states",
    "noop_mask",
    "or_masks",
    "random_features",
    "scaled_dot_product_attention",
    "topk_attention",
]


class _CallableModule(ModuleType):
    """A module that is a function too, and pickles as a reference to itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return attention(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)


# What `help` shows: the name leads here.
__doc__ = f"{__doc__}\n{inspect.cleandoc(attention.__doc__ or '')}\n"
_signature = inspect.signature(attention)
_self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
_CallableModule.__call__.__doc__ = attention.__doc__
_CallableModule.__call__.__signature__ = _signature.replace(  # type: ignore[attr-defined]
    parameters=[_self, *_signature.parameters.values()]
)
sys.modules[__name__].__class__ = _CallableModule
