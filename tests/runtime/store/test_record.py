import json
from dataclasses import replace

import numpy as np
import pytest

import attngraph as ag
from attngraph.runtime.store.layout import Layout
from attngraph.runtime.store.record import Record

LAYOUT = Layout(2, 4, 3, "float32", None, chunk=8, unit=32, sharded=True)
TAILS = {"keys": (1, 2**32 - 1), "values": (0, 7)}


def test_it_is_what_was_written():
    record = Record.new(LAYOUT, {"note": "ä"}).appended(13, TAILS).truncated(5, TAILS)
    assert Record.parse(record.document(), "open", "file") == record
    assert len(record.document()) < 4000


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b"{}", b'{"attributes": {}}', b'{"attributes": null}', b"\xff"])
def test_what_is_none(document):
    with pytest.raises(ag.StoreError, match="open: file is not, or no longer, the record"):
        Record.parse(document, "open", "file")


@pytest.mark.parametrize(
    "change",
    [{"length": 14}, {"tails": {}}, {"layout": {}}, {"identity": "x"}, {"format": None}, {"format": 9}, {"lowest": 3}],
)
def test_what_was_changed(change):
    document = json.loads(Record.new(LAYOUT, {}).appended(13, TAILS).document())
    document["attributes"]["attngraph"].update(change)
    with pytest.raises(ag.StoreError, match=r"open: file (is damaged|has format 9)"):
        Record.parse(json.dumps(document).encode(), "open", "file")


def test_snapshots_know_what_truncations_left_of_them():
    """Against all truncations, remembered; where some were merged it may say less, never more."""
    rng = np.random.default_rng(0)
    for ambition in (0.2, 1.0):  # how much of the store truncations take
        record, history, snapshots = Record.new(LAYOUT, {}), [], []
        for _ in range(300):
            record = record.appended(int(rng.integers(1, 20)), TAILS)
            snapshots.append((record.length, record.truncations))
            if rng.random() < 0.5:
                length = record.length - int(rng.random() * ambition * record.length)
                record = record.truncated(length, TAILS)
                history.append(length)
            for length, truncations in snapshots[-20:]:
                exact = min([length, *history[truncations:]])
                assert record.still_there(length, truncations) <= exact
                if record.truncations - truncations <= 2:
                    assert record.still_there(length, truncations) == exact
        assert len(record.lowest) <= 16
        assert len(replace(record, lowest=()).document()) + 1000 > len(record.document())
