"""attngraph: write any attention as an expression.

``import attngraph as ag``; functions carry the array API standard's names, attention PyTorch's.
"""

import importlib
import sys
from typing import TYPE_CHECKING

from . import attention
from . import runtime as runtime  # registers what xarray is to know of
from .attention import (
    BlockMask,
    LinearAttentionState,
    SparseMask,
    and_masks,
    attention_error,
    create_block_mask,
    flex_attention,
    linear_attention,
    merge_states,
    noop_mask,
    or_masks,
    random_features,
    scaled_dot_product_attention,
    topk_attention,
)
from .engine.config import config
from .engine.errors import (
    ArgumentError,
    AttnGraphError,
    CompileError,
    DTypeError,
    IndexOutOfRangeError,
    LimitError,
    NonFiniteError,
    ShapeError,
    StoreError,
    TraceError,
)
from .engine.ir import Node
from .ops import chunked as chunked
from .ops import interop as interop  # NumPy's protocols
from .ops import labelled as labelled  # names of axes, and xarray
from .ops import manifold
from .ops import missing as missing  # NumPy's functions that pass over NaN
from .ops import torch_protocol as torch_protocol
from .ops.activation import elu, gelu, leaky_relu, relu, sigmoid, silu, softplus
from .ops.arithmetic import (
    abs,
    add,
    astype,
    clip,
    copysign,
    divide,
    floor_divide,
    hypot,
    maximum,
    minimum,
    multiply,
    negative,
    nextafter,
    positive,
    pow,
    reciprocal,
    remainder,
    sign,
    square,
    subtract,
)
from .ops.array import Array, asarray, constant
from .ops.creation import (
    arange,
    full,
    full_like,
    inf,
    nan,
    newaxis,
    ones,
    ones_like,
    pi,
    placeholder,
    zeros,
    zeros_like,
)
from .ops.cumulative import cumulative_sum
from .ops.einsum import einsum
from .ops.erf import erf
from .ops.exponential import exp, exp2, expm1, log, log1p, log2, log10, logaddexp, rsqrt, sqrt
from .ops.gradients import checkpoint, grad, gradients, stop_gradient, value_and_grad, vjp
from .ops.indexing import take, take_along_axis
from .ops.joining import concat, repeat, roll, split, stack, tile, unstack
from .ops.linear_algebra import matmul, tensordot, vecdot
from .ops.logic import (
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    signbit,
)
from .ops.namespace import (
    bool,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    pad,
    result_type,
    transpose,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .ops.norm import l2_normalize, layer_norm, rms_norm
from .ops.pages import pages
from .ops.quantization import Quantized, dequantize, pack_int4, quantize, unpack_int4
from .ops.reduction import all, any, argmax, argmin, max, min, prod, sum
from .ops.rounding import ceil, floor, round, trunc
from .ops.segment import segment_max, segment_mean, segment_softmax, segment_sum
from .ops.selection import where
from .ops.shape import (
    broadcast_arrays,
    broadcast_to,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    permute_dims,
    reshape,
    squeeze,
)
from .ops.softmax import log_softmax, logsumexp, softmax
from .ops.sorting import argsort, sort, topk
from .ops.statistics import mean, std, var
from .ops.triangle import eye, tril, triu
from .ops.trigonometry import acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, sin, sinh, tan, tanh

__version__ = "0.1.0"

# Importable under its public name too: ``from attngraph.manifold import PoincareBall``.
sys.modules[f"{__name__}.manifold"] = manifold

if TYPE_CHECKING:
    from .ops.graph import CSR
    from .ops.scalar_function import ScalarFunction, scalar_function
    from .runtime.batch import BatchSummary, batch
    from .runtime.compiled import Compiled, compile, compute
    from .runtime.explanation import Explanation, explain
    from .runtime.store import KVStore
    from .runtime.storing import store
else:
    # What takes a tenth of the whole import's time, or is for few: loaded when it is asked for.
    _LATER = {
        "BatchSummary": "runtime.batch",
        "CSR": "ops.graph",
        "Compiled": "runtime.compiled",
        "Explanation": "runtime.explanation",
        "KVStore": "runtime.store",
        "ScalarFunction": "ops.scalar_function",
        "batch": "runtime.batch",
        "compile": "runtime.compiled",
        "compute": "runtime.compiled",
        "explain": "runtime.explanation",
        "scalar_function": "ops.scalar_function",
        "store": "runtime.storing",
    }

    def __getattr__(name, _import=importlib.import_module, _later=_LATER):
        if name not in _later:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(_import(f"{__name__}.{_later[name]}"), name)
        return globals()[name]

    del _LATER


del TYPE_CHECKING, importlib, sys

__all__ = [
    "CSR",
    "ArgumentError",
    "Array",
    "AttnGraphError",
    "BatchSummary",
    "BlockMask",
    "CompileError",
    "Compiled",
    "DTypeError",
    "Explanation",
    "IndexOutOfRangeError",
    "KVStore",
    "LimitError",
    "LinearAttentionState",
    "Node",
    "NonFiniteError",
    "Quantized",
    "ScalarFunction",
    "ShapeError",
    "SparseMask",
    "StoreError",
    "TraceError",
    "abs",
    "acos",
    "acosh",
    "add",
    "all",
    "and_masks",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asarray",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "attention",
    "attention_error",
    "batch",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "bool",
    "broadcast_arrays",
    "broadcast_to",
    "ceil",
    "checkpoint",
    "clip",
    "compile",
    "compute",
    "concat",
    "config",
    "constant",
    "copysign",
    "cos",
    "cosh",
    "create_block_mask",
    "cumulative_sum",
    "dequantize",
    "divide",
    "einsum",
    "elu",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expand_dims",
    "explain",
    "expm1",
    "eye",
    "flex_attention",
    "flip",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "full",
    "full_like",
    "gelu",
    "grad",
    "gradients",
    "greater",
    "greater_equal",
    "hypot",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "isfinite",
    "isinf",
    "isnan",
    "l2_normalize",
    "layer_norm",
    "leaky_relu",
    "less",
    "less_equal",
    "linear_attention",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "manifold",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "mean",
    "merge_states",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "nan",
    "negative",
    "newaxis",
    "nextafter",
    "noop_mask",
    "not_equal",
    "ones",
    "ones_like",
    "or_masks",
    "pack_int4",
    "pad",
    "pages",
    "permute_dims",
    "pi",
    "placeholder",
    "positive",
    "pow",
    "prod",
    "quantize",
    "random_features",
    "reciprocal",
    "relu",
    "remainder",
    "repeat",
    "reshape",
    "result_type",
    "rms_norm",
    "roll",
    "round",
    "rsqrt",
    "scalar_function",
    "scaled_dot_product_attention",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "sigmoid",
    "sign",
    "signbit",
    "silu",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "stop_gradient",
    "store",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tensordot",
    "tile",
    "topk",
    "topk_attention",
    "transpose",
    "tril",
    "triu",
    "trunc",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unpack_int4",
    "unstack",
    "value_and_grad",
    "var",
    "vecdot",
    "vjp",
    "where",
    "zeros",
    "zeros_like",
]
