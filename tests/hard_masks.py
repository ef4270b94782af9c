"""Mask functions at the edges of integer types, division, infinities and logic: for two batches, three heads."""

import functools

import numpy as np

import attngraph as ag

LENGTH = 90
_RNG = np.random.default_rng(11)


def _table(values, dtype):
    return ag.asarray(np.asarray(values).astype(dtype))


def _anything(dtype):
    limits = np.iinfo(dtype)
    return ag.asarray(np.sort(_RNG.integers(limits.min, limits.max, LENGTH, dtype=dtype, endpoint=True)))


BYTES, SHORT_BYTES = _anything("uint8"), _table(np.sort(_RNG.integers(0, 6, LENGTH)), "uint8")
SIGNED_BYTES, SMALL = _anything("int8"), _table(_RNG.integers(-10, 10, LENGTH), "int8")
WORDS, UNSIGNED_WORDS, UNSIGNED = _anything("int32"), _anything("uint32"), _anything("uint64")
LARGE_WORDS = _table(np.sort(_RNG.integers(0, 2**27, LENGTH)), "int32")
HASHES = _table(np.repeat(_RNG.integers(-(2**63), 2**63 - 1, LENGTH // 9), 9), "int64")
HUGE = _table(np.full(LENGTH, 2**63 - 20), "int64")
OF_HEADS = _table([2**27, -(2**27), 5], "int32")
NEAR = _table([5, 20, 60], "int64")
TIMES = _table(np.sort(_RNG.integers(-20, 20, LENGTH)) / 4, "float32")
_STRANGE = np.linspace(-3, 3, LENGTH)
_STRANGE[[5, 40, 41]] = np.nan, np.inf, -np.inf
STRANGE = _table(_STRANGE, "float32")
INFINITE = _table(np.where(np.arange(LENGTH) % 2, np.inf, -np.inf), "float32")

HARD = {
    "bytes wrap below 0": lambda b, h, i, j: (BYTES[i] - BYTES[j]) < 100,
    "small bytes wrap below 0": lambda b, h, i, j: (SHORT_BYTES[i] - SHORT_BYTES[j]) < 100,
    "negative bytes": lambda b, h, i, j: (-SHORT_BYTES[j] + SHORT_BYTES[i]) < 3,
    "inverted bytes": lambda b, h, i, j: ~SHORT_BYTES[j] > 200,
    "signed bytes wrap": lambda b, h, i, j: (SIGNED_BYTES[i] + SIGNED_BYTES[j]) < 10,
    "products of bytes wrap": lambda b, h, i, j: (SMALL[i] * SMALL[j] * SMALL[i]) < 10,
    "the magnitude of -128": lambda b, h, i, j: abs(SIGNED_BYTES[j]) >= 0,
    "-128 by -1": lambda b, h, i, j: (SIGNED_BYTES[j] // -1) < 20,
    "words wrap": lambda b, h, i, j: (WORDS[i] - WORDS[j]) >= 0,
    "products of words wrap": lambda b, h, i, j: (LARGE_WORDS[i] * 1000 - LARGE_WORDS[j]) >= 0,
    "unsigned words": lambda b, h, i, j: (UNSIGNED_WORDS[i] - UNSIGNED_WORDS[j]) >= 5,
    "unsigned of 64 bits": lambda b, h, i, j: UNSIGNED[i] >= UNSIGNED[j],
    "the largest of 64 bits": lambda b, h, i, j: ag.minimum(UNSIGNED[i], UNSIGNED[j]) < 2**63,
    "hashes": lambda b, h, i, j: HASHES[i] == HASHES[j],
    "hashes wrap": lambda b, h, i, j: (HASHES[i] - HASHES[j]) >= 0,
    "hashes cancel": lambda b, h, i, j: (i + HASHES[j]) >= (j + HASHES[j]),
    "what cancels has wrapped": lambda b, h, i, j: (i + HUGE[j]) >= (j + HUGE[j]),
    "words of heads as wide ones": lambda b, h, i, j: j <= OF_HEADS[h].astype("int64") * 1000 + i,
    "products of widened words": lambda b, h, i, j: (
        LARGE_WORDS[i].astype("int64") * LARGE_WORDS[j].astype("int64") >= 2**50
    ),
    "a column as a byte": lambda b, h, i, j: (i - j).astype("int8") >= 0,
    "a distance as a byte": lambda b, h, i, j: (i - j).astype("uint8") >= 5,
    "beyond the least": lambda b, h, i, j: i - j > -(2**63),
    "below the least": lambda b, h, i, j: j < -(2**63),
    "below the largest": lambda b, h, i, j: (j < 2**63 - 1) & (2**63 - 1 - j >= i),
    "sums beyond the largest": lambda b, h, i, j: (i - j + 2**62) + 2**62 >= 0,
    "products beyond the largest": lambda b, h, i, j: (i - j) * 2**60 >= 0,
    "divided by 0": lambda b, h, i, j: (i // 0 == j // 0) & (i >= j),
    "the remainder by 0": lambda b, h, i, j: ((i - j) % 0 == 0) & (i >= j),
    "divided by a negative": lambda b, h, i, j: (i // -3) <= (j // -3),
    "the remainder by a negative": lambda b, h, i, j: (i - j) % -7 == 0,
    "the remainder by the head": lambda b, h, i, j: (i % h) == (j % h),
    "divided by one more than the head": lambda b, h, i, j: (i // (h + 1) == j // (h + 1)) | ((i - j) % (h + 1) == 0),
    "less, of conditions": lambda b, h, i, j: (i >= j) > (j > 10),
    "less or equal, of conditions": lambda b, h, i, j: (i >= j) <= (j > 10),
    "equal conditions": lambda b, h, i, j: (i >= j) == (j > 10),
    "one of two": lambda b, h, i, j: (i >= j) ^ (j > 10),
    "a choice of conditions": lambda b, h, i, j: ag.where(i > 40, i >= j, j > 5),
    "a choice of numbers": lambda b, h, i, j: ag.where(i > j, i - j, j + 5) > 20,
    "clipped on both sides": lambda b, h, i, j: ag.clip(i - j, -5, 5) == ag.clip(j - i + 3, -5, 5),
    "less than NaN": lambda b, h, i, j: STRANGE[j] < 0,
    "not less than NaN": lambda b, h, i, j: ~(STRANGE[j] < 0),
    "infinities that meet": lambda b, h, i, j: INFINITE[i] - INFINITE[j] <= np.inf,
    "infinities that add": lambda b, h, i, j: INFINITE[i] + INFINITE[j] >= -np.inf,
    "NaN as an integer": lambda b, h, i, j: STRANGE[j].astype("int64") >= 0,
    "too large for an integer": lambda b, h, i, j: (STRANGE * 1e12)[j].astype("int32") >= i,
    "near in time": lambda b, h, i, j: abs(TIMES[i] - TIMES[j]) <= 0.5,
    "halves": lambda b, h, i, j: TIMES.astype("float16")[i] >= TIMES.astype("float16")[j],
    "windows of heads": lambda b, h, i, j: (i - j < NEAR[h]) & (i >= j),
    "the next one's": lambda b, h, i, j: (HASHES[ag.minimum(j + 1, LENGTH - 1)] == HASHES[i]) | (i == j),
    "from behind": lambda b, h, i, j: HASHES[j - LENGTH] == HASHES[LENGTH - 1 - i],
    "bits": lambda b, h, i, j: ((i >> 3) == (j >> 3)) | ((i ^ j) < 4),
    "a chain of conditions": lambda b, h, i, j: functools.reduce(lambda c, n: c & (i + n >= j), range(60), i < 80),
    "conditions shared by doubling": lambda b, h, i, j: functools.reduce(
        lambda c, n: c & (c | (i >= j - n)), range(40), i >= j
    ),
    "numbers shared by doubling": lambda b, h, i, j: (
        functools.reduce(lambda c, n: ag.minimum(c + c, 500), range(40), i - j) >= 0
    ),
}
