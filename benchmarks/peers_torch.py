"""PyTorch's three ways: its fused attention, its compiled FlexAttention, and its compiler on the formula."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Case
from contract import Prepared, Unsupported


def _torch(threads: int) -> Any:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    torch._dynamo.reset()  # each case is compiled as the first one, for its own lengths
    return torch


def _prepared(torch: Any, run: Callable[..., Any]) -> Prepared:
    return Prepared(run, lambda *a: tuple(map(torch.from_numpy, a)), lambda result: np.asarray(result.numpy()))


def sdpa(case: Case, threads: int, added: Callable[[Case], np.ndarray | None]) -> Prepared:
    """``scaled_dot_product_attention``; a mask or bias that it has no word for is a dense array, made ahead."""
    torch = _torch(threads)
    attend = torch.nn.functional.scaled_dot_product_attention
    if case.name in ("full", "causal"):
        causal = case.name == "causal"
        return _prepared(torch, lambda q, k, v: attend(q, k, v, is_causal=causal))
    array = added(case)
    assert array is not None
    dense = torch.from_numpy(array)
    return _prepared(torch, lambda q, k, v: attend(q, k, v, attn_mask=dense))


def flex(case: Case, threads: int) -> Prepared:
    """``torch.compile(flex_attention)`` with its block mask."""
    torch = _torch(threads)
    module = importlib.import_module("torch.nn.attention.flex_attention")
    score_mod, mask_mod = case.functions("torch")
    mask = None
    if mask_mod is not None:
        mask = module.create_block_mask(mask_mod, *case.mask_sizes, case.queries, case.keys, device="cpu")
    attend = torch.compile(module.flex_attention)
    return _prepared(torch, lambda q, k, v: attend(q, k, v, score_mod=score_mod, block_mask=mask))


def compiled(case: Case, threads: int) -> Prepared:
    """``torch.compile`` of the formula as one writes it; the mask is a predicate in it."""
    torch = _torch(threads)
    if case.batch != 1:
        raise Unsupported("not written: batches")
    score_mod, mask_mod = case.functions("torch")

    def formula(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.mT * case.width**-0.5
        sizes = [1, 1, 1, 1]
        indices = [torch.arange(n).view(*sizes[:axis], n, *sizes[axis + 1 :]) for axis, n in enumerate(scores.shape)]
        if score_mod is not None:
            scores = score_mod(scores, *indices)
        if mask_mod is not None:
            scores = torch.where(mask_mod(*indices), scores, -float("inf"))
        return scores.softmax(-1) @ v

    return _prepared(torch, torch.compile(formula))
