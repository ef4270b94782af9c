"""Products of matrices in which some elements are hidden: they add nothing, whatever the other factor holds."""

from typing import Any

import numpy as np

from .careful import Careful, Values


def weights_matrix(weight: Careful, shape: tuple[int, int]) -> Careful:
    """Weights of rows and columns, without further dimensions."""

    def flat(values: Any) -> Any:
        return None if values is None else np.broadcast_to(values.reshape(values.shape[:2]), shape)

    hidden = None if weight.hidden is None else weight.full_hidden()
    blame = None if weight.blame is None else weight.full_blame()
    return Careful(flat(weight.value), flat(hidden), flat(blame))


def column_matrix(column: Careful, count: int, place: int | None) -> Careful:
    """What so many columns bring, along the dimension ``place`` if there is one."""

    def flat(values: Any) -> Any:
        if values is None:
            return None
        if place is None:
            return np.broadcast_to(values.reshape(values.shape[1], 1), (count, 1))
        moved = np.moveaxis(values, (1, place), (0, 1))
        return np.broadcast_to(moved.reshape(moved.shape[:2]), (count, moved.shape[1]))

    hidden = None if column.hidden is None else column.full_hidden()
    blame = None if column.blame is None else column.full_blame()
    return Careful(flat(column.value), flat(hidden), flat(blame))


def visible_product(left: Careful, right: Careful) -> Values:
    """A product of two matrices without hidden terms, those that are not finite as IEEE has them.

    Of such terms it matters alone whether a sum has any, and of which sign: products of indicators say so.
    """
    values = [left.contribution(), right.contribution()]
    finite = [np.isfinite(each) for each in values]
    if finite[0].all() and finite[1].all():
        return np.asarray(values[0] @ values[1])
    seen = [side.hidden_zeros() == 0 for side in (left, right)]
    clean = [np.where(good, each, 0.0) for good, each in zip(finite, values, strict=True)]
    result = clean[0] @ clean[1]
    depth = np.logical_not(finite[0].all(axis=0) & finite[1].all(axis=1))
    a, b = values[0][:, depth], values[1][depth]
    seen_a, seen_b = seen[0][:, depth], seen[1][depth]
    bad_a, bad_b = np.isinf(a), np.isinf(b)
    nans = _any(np.isnan(a), seen_b) | _any(seen_a, np.isnan(b))
    nans |= _any(bad_a & seen_a, (b == 0) & seen_b) | _any((a == 0) & seen_a, bad_b & seen_b)
    # Infinity times a sign, of either factor.
    ups = _any(bad_a & (a > 0), b > 0) | _any(bad_a & (a < 0), b < 0) | _any(a > 0, bad_b & (b > 0))
    ups |= _any(a < 0, bad_b & (b < 0))
    downs = _any(bad_a & (a > 0), b < 0) | _any(bad_a & (a < 0), b > 0) | _any(a > 0, bad_b & (b < 0))
    downs |= _any(a < 0, bad_b & (b > 0))
    result = np.where(ups, np.inf, np.where(downs, -np.inf, result))
    return np.where(nans | (ups & downs), np.nan, result)


def _any(left: Values, right: Values) -> Values:
    """For each row and column whether both hold at some place in between."""
    return np.asarray(left.astype(np.float32) @ right.astype(np.float32) > 0)
