"""Graphs as text: golden listings."""

import re

import numpy as np

import attngraph as ag
from attngraph.engine.printing import brief, listing


def attention():
    q, k, v = (ag.placeholder((2, 4, 8), name=name) for name in "qkv")
    i, j = ag.arange(4)[:, None], ag.arange(4)[None, :]
    return ag.softmax(ag.where(i >= j, q @ k.mT / 8, -ag.inf), axis=-1) @ v


GOLDEN = """\
%0 = arange(start=0, step=1, length=4, element_type=int64) : int64[4]
%1 = reshape(%0, to=(4, 1))                                : int64[4, 1]
%2 = reshape(%0, to=(1, 4))                                : int64[1, 4]
%3 = greater_equal(%1, %2)                                 : bool[4, 4]
%4 = placeholder 'q'                                       : float32[2, 4, 8]
%5 = placeholder 'k'                                       : float32[2, 4, 8]
%6 = permute_dims(%5, axes=(0, 2, 1))                      : float32[2, 8, 4]
%7 = matmul(%4, %6)                                        : float32[2, 4, 4]
%8 = divide(%7, 8.0)                                       : float32[2, 4, 4]
%9 = where(%3, %8, -inf)                                   : float32[2, 4, 4]
%10 = softmax(%9, axis=2)                                  : float32[2, 4, 4]
%11 = placeholder 'v'                                      : float32[2, 4, 8]
%12 = matmul(%10, %11)                                     : float32[2, 4, 8]
return %12"""


def test_listing_is_golden():
    assert listing([attention().node]) == GOLDEN


def test_listing_says_where_the_user_wrote_it():
    text = listing([attention().node], lines=True)
    # A node that another test made first carries that test's line first.
    assert len(re.findall(r"# \S+\.py:\d+$", text, re.MULTILINE)) == 13
    assert text.count("test_printing.py:") >= 8


def test_listing_shows_the_last_nodes_of_many():
    text = listing([attention().node], most=2)
    assert text.splitlines()[0] == "... 11 nodes before"
    assert len(text.splitlines()) == 4


def test_leaves_and_casts():
    x = ag.constant(np.ones(2, "float16"))
    y = ag.asarray(np.ones(2)).astype("int8")
    assert listing([x.node]).startswith("%0 = constant data")
    assert "astype(%0, target=int8, weak=False)" in listing([y.node])
    assert listing([ag.asarray(2.5).node]) == "return 2.5"


def test_brief_is_one_line():
    assert brief(attention().node, 1) == "matmul(float32[2, 4, 4], float32[2, 4, 8])"
    assert brief(ag.asarray(3).node) == "3"
