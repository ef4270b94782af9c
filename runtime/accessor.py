"""``da.attn``: attention between xarray's DataArrays, dimensions by name."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from ..attention import attention
from ..engine.errors import ArgumentError, ShapeError
from ..engine.labels import Axis, Labels, labels_of_source
from ..ops.array import Array, asarray
from ..ops.labelled import is_labelled, with_labels
from ..ops.shape import permute_dims, reshape, squeeze

_FUNCTION = "attn.attention"


class _Roles(NamedTuple):
    """What each dimension is for: ``rows`` and ``width`` are None where query or values have no such."""

    dim: Hashable
    over: Hashable
    batch: tuple[Hashable, ...]
    rows: Hashable | None
    width: Hashable | None
    heads: Hashable | None
    is_self: bool


class AttentionAccessor:
    """``da.attn`` of a DataArray, which is the query."""

    def __init__(self, query: Any) -> None:
        self._query = query

    def attention(
        self,
        keys: Any,
        values: Any,
        *,
        dim: Hashable,
        over: Hashable,
        heads: Hashable | None = None,
        mask: Any = None,
        bias: Any = None,
        is_causal: bool | str = False,
        scale: float | None = None,
        return_lse: bool = False,
    ) -> Any:
        """This array attends to ``keys``, and is given ``values``: ``softmax(query · keys over dim) · values``.

        Dimensions may stand in any order. ``dim`` is contracted, ``over`` is attended over; others that arrays share
        are batches, broadcast by name. What is left of the query's are its own rows. The query may have ``over`` too,
        as in self-attention: there it is its rows, of any length.

        Args:
            keys: A DataArray with ``dim`` and ``over``.
            values: A DataArray with ``over``; its dimension that no other array has, or ``dim``, is that of the result.
            dim: The feature dimension of query and keys.
            over: The length of keys and values.
            heads: A dimension of which keys and values have fewer than the query, whose heads share them in groups.
            mask: Boolean (True = attend): a DataArray, by names, where ``over`` is the keys'; another array, broadcast
                to (batches…, rows, keys) by position; or a BlockMask.
            bias: Float, added to the scores; given as the mask.
            is_causal: True: row i sees keys j <= i. ``"lower_right"``: the last row sees all keys.
            scale: Factor of the scores; 1/sqrt of the length of ``dim`` if None.
            return_lse: Return ``(out, lse)``.

        Returns:
            A DataArray with the query's dimensions, ``dim`` replaced by the values'; dimensions that the query has not
            stand first. Coordinates are the query's and, along that dimension, the values'; name and attributes the
            query's (`xarray.set_options(keep_attrs=False)` drops these). It is lazy, and stays so through selection
            and arithmetic, until ``.compute()``, ``.load()`` or ``.values``. The ``lse`` has the same dimensions
            without the values'.

        Raises:
            ArgumentError: For what is no DataArray, a dimension that is missing, or one whose role is not clear.
            ShapeError: If lengths or coordinates along a dimension differ between arrays.
            DTypeError: As `attngraph.attention`.
        """
        arrays = {"query": self._query, "keys": keys, "values": values}
        for name, array in arrays.items():
            if not is_labelled(array):
                raise ArgumentError(f"{_FUNCTION}: {name} is a DataArray, not {type(array).__name__}")
        roles = _roles(arrays, dim, over, heads, is_causal)
        _check_alike(arrays, roles)
        query = _laid_out(self._query, roles.batch, (roles.rows, roles.dim))
        key, value = (_laid_out(a, roles.batch, (over, last)) for a, last in ((keys, dim), (values, roles.width)))
        shared = roles.heads is not None and keys.sizes.get(roles.heads) != self._query.sizes.get(roles.heads)
        out, lse = attention(
            query,
            key,
            value,
            mask=_placed("mask", mask, roles),
            bias=_placed("bias", bias, roles),
            is_causal=is_causal,
            scale=scale,
            enable_gqa=shared,
            return_lse=True,
        )
        labelled = _labelled_out(arrays, roles, out)
        return (labelled, _labelled_lse(arrays, roles, lse)) if return_lse else labelled

    def compute(self) -> Any:
        """The same with its numbers: a lazy array evaluated, all else as ``da.compute()``."""
        return self._query.compute()


def _roles(arrays: dict[str, Any], dim: Any, over: Any, heads: Any, is_causal: Any) -> _Roles:
    query, keys, values = arrays.values()
    if dim == over:
        raise ArgumentError(f"{_FUNCTION}: dim and over are two dimensions, not both {dim!r}")
    for name, wanted in (("query", (dim,)), ("keys", (dim, over)), ("values", (over,))):
        missing = [each for each in wanted if each not in arrays[name].dims]
        if missing:
            raise ArgumentError(f"{_FUNCTION}: {name} has no dimension {missing[0]!r}: {_sides(arrays)}")
    if heads is not None and not all(heads in each.dims for each in arrays.values()):
        raise ArgumentError(f"{_FUNCTION}: heads={heads!r} is no dimension of all three: {_sides(arrays)}")
    width = _width(arrays, dim, over)
    keyed = [each for each in (*keys.dims, *values.dims) if each not in (dim, over, width)]
    own = [each for each in query.dims if each != dim and each not in keyed]
    is_self = over in own
    if is_self:
        rows = over
    elif len(own) > 1 and is_causal is not False:
        raise ArgumentError(f"{_FUNCTION}: which of {own} do rows stand along, for is_causal: {_sides(arrays)}")
    else:
        rows = own[-1] if own else None
    new = [each for each in dict.fromkeys(keyed) if each not in query.dims]
    batch = [*new, *(each for each in query.dims if each not in (dim, rows) and each != heads)]
    batch += [] if heads is None else [heads]
    return _Roles(dim, over, tuple(batch), rows, width, heads, is_self)


def _width(arrays: dict[str, Any], dim: Any, over: Any) -> Any:
    """The values' own dimension: ``dim``, or the one that no other array has."""
    query, keys, values = arrays.values()
    if dim in values.dims:
        return dim
    own = [each for each in values.dims if each != over and each not in query.dims and each not in keys.dims]
    if len(own) > 1:
        raise ArgumentError(f"{_FUNCTION}: values have {own}, of which one alone can be theirs: {_sides(arrays)}")
    return own[0] if own else None


def _sides(arrays: dict[str, Any]) -> str:
    return ", ".join(f"{name} {dict(array.sizes)}" for name, array in arrays.items())


def _check_alike(arrays: dict[str, Any], roles: _Roles) -> None:
    """Lengths and coordinates along what arrays share."""
    query, keys, values = arrays.items()
    shared = [(each, query, keys) for each in (roles.dim, *roles.batch)]
    shared += [(each, keys, values) for each in (roles.over, *roles.batch)]
    shared += [(each, query, values) for each in roles.batch]
    for dim, (name, one), (other_name, other) in shared:
        if dim == roles.heads or dim not in one.dims or dim not in other.dims:
            continue
        if one.sizes[dim] != other.sizes[dim]:
            hint = f"; heads={dim!r} lets groups share" if dim in roles.batch else ""
            raise ShapeError(
                f"{_FUNCTION}: {name} and {other_name} differ in length along {dim!r}: {_sides(arrays)}{hint}"
            )
        both = one.indexes.get(dim), other.indexes.get(dim)
        if all(each is not None for each in both) and not both[0].equals(both[1]):
            raise ShapeError(
                f"{_FUNCTION}: {name} and {other_name} differ in their coordinates along {dim!r}; xarray.align brings "
                f"them together: {_sides(arrays)}"
            )


def _laid_out(array: Any, batch: Sequence[Any], core: Sequence[Any]) -> Array:
    """A DataArray as (batches…, rows, width); what it has not is 1 long."""
    wanted = (*batch, *core)
    lazy = asarray(array)
    present = [each for each in wanted if each is not None and each in array.dims]
    lazy = permute_dims(lazy, tuple(array.dims.index(each) for each in present))
    return reshape(lazy, tuple(array.sizes[each] if each in present else 1 for each in wanted))


def _placed(name: str, given: Any, roles: _Roles) -> Any:
    """A mask or bias as (batches…, rows, keys)."""
    if not is_labelled(given):
        return given
    known = (*roles.batch, None if roles.is_self else roles.rows, roles.over)
    strange = [each for each in given.dims if each not in known]
    if strange:
        raise ArgumentError(
            f"{_FUNCTION}: {name} has a dimension {strange[0]!r}, of {dict(given.sizes)}, that is none of the scores' "
            f"{[each for each in known if each is not None]}"
        )
    return _laid_out(given, roles.batch, known[len(roles.batch) :])


def _labelled_out(arrays: dict[str, Any], roles: _Roles, out: Array) -> Any:
    """In the order of the query's dimensions, the values' in place of the contracted one."""
    query = arrays["query"]
    stand = (*roles.batch, roles.rows, roles.width)
    new = [each for each in roles.batch if each not in query.dims]
    order = [*new, *(roles.width if each == roles.dim else each for each in query.dims)]
    return _labelled(arrays, roles, out, stand, [each for each in order if each is not None])


def _labelled_lse(arrays: dict[str, Any], roles: _Roles, lse: Array) -> Any:
    query = arrays["query"]
    new = [each for each in roles.batch if each not in query.dims]
    order = [*new, *(each for each in query.dims if each != roles.dim)]
    return _labelled(arrays, roles, lse, (*roles.batch, roles.rows), order)


def _labelled(arrays: dict[str, Any], roles: _Roles, array: Array, stand: Sequence[Any], order: Sequence[Any]) -> Any:
    absent = tuple(place for place, each in enumerate(stand) if each is None)
    array = squeeze(array, absent) if absent else array
    present = [each for each in stand if each is not None]
    array = permute_dims(array, tuple(present.index(each) for each in order))
    return with_labels(array, Labels(tuple(_axis(arrays, roles, each) for each in order), arrays["query"]))


def _axis(arrays: dict[str, Any], roles: _Roles, dim: Any) -> Axis:
    """With the labels that the query has for it, or else keys or values."""
    names = ("values",) if dim == roles.width else ("query", "keys", "values")
    for name in names:
        labels = labels_of_source(arrays[name])
        for axis in () if labels is None else labels.axes:
            if axis is not None and axis.dim == dim:
                return axis
    return Axis(dim)


def register(xarray: Any) -> None:
    """Give DataArrays their ``attn``; another's of that name stays."""
    if not hasattr(xarray.DataArray, "attn"):
        xarray.register_dataarray_accessor("attn")(AttentionAccessor)
