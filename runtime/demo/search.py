"""Answering questions by similarity: the sentences whose embeddings point the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUESTIONS = (
    "How do I compress data?",
    "How can I find out how large a file is?",
    "How do I get the middle value of some numbers?",
    "Is this network address private?",
    "How do I parse options on the command line?",
)
ANSWERS = 3


@dataclass(frozen=True)
class Answer:
    """A sentence and its cosine similarity to the question, from -1 to 1."""

    sentence: str
    similarity: float


def nearest(
    question: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    sentences: Sequence[str],
    count: int = ANSWERS,
) -> list[Answer]:
    """Return the ``count`` sentences most similar to a question, the best first.

    ``question`` (D,) and the rows of ``embeddings`` (n, D) are unit vectors; row i is sentence i's.
    """
    similarities = embeddings @ question
    best = np.argsort(-similarities, kind="stable")[:count]
    return [Answer(sentences[row], float(similarities[row])) for row in best]


def format_answers(question: str, answers: Sequence[Answer]) -> str:
    """Return a question and its answers as text, a line each."""
    lines = [f"  {answer.similarity:5.2f}  {answer.sentence}" for answer in answers]
    return "\n".join([question, *lines])
