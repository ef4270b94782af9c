"""``python -m attngraph.runtime.demo``: embed a thousand sentences and more, and ask them questions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ... import explain
from .encoder import MissingPackageError, SentenceEncoder
from .search import QUESTIONS, format_answers, nearest
from .sentences import DEFAULT_COUNT, collect_sentences

_FIRST_LINES, _LAST_LINES = 30, 5  # of the graph's report, on the screen


@dataclass(frozen=True)
class Run:
    """What one run embedded: n sentences, their embeddings (n, 384), tokens and seconds."""

    sentences: list[str]
    embeddings: NDArray[np.float32]
    tokens: int
    seconds: float

    def figures(self) -> str:
        """Return the run's figures, one a line."""
        return (
            f"sentences            {len(self.sentences):10,}\n"
            f"tokens               {self.tokens:10,}\n"
            f"seconds              {self.seconds:10.2f}\n"
            f"sentences a second   {len(self.sentences) / self.seconds:10.1f}\n"
            f"tokens a second      {self.tokens / self.seconds:10,.0f}"
        )


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=DEFAULT_COUNT, show_default=True,
              help="How many sentences to embed.")  # fmt: skip
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"),
              show_default=True, help="Folder to write to; made if missing.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def main(count: int, output: Path, quiet: bool) -> None:
    """Embed sentences of the standard library's documentation with MiniLM, as an attention graph.

    Writes sentences.txt, embeddings.npy (row i is line i's embedding) and report.txt.
    """
    console = Console(quiet=quiet, highlight=False, markup=False, soft_wrap=True)
    console.print("MiniLM-L6, a sentence encoder of 6 layers and 12 heads, as an attngraph graph.")
    try:
        encoder = SentenceEncoder()
    except MissingPackageError as error:
        raise click.ClickException(str(error)) from error
    run = embed(encoder, collect_sentences(count), console)
    graph = str(explain(encoder.graph))  # of the latest batch, so before the questions make another
    answers = answer_questions(encoder, run)
    console.print(f"\n{run.figures()}\n\n{answers}\n\n{shortened(graph, _FIRST_LINES, _LAST_LINES)}")
    write_files(output, run, f"{run.figures()}\n\n{answers}\n\n{graph}\n")
    console.print(f"\nWrote sentences.txt, embeddings.npy and report.txt to {output}.")


def embed(encoder: SentenceEncoder, sentences: list[str], console: Console) -> Run:
    """Embed ``sentences``, showing progress on ``console``; tracing and tokenizing are in the time."""
    start = time.perf_counter()
    tokens = encoder.tokenize(sentences)
    with progress_shown(console, len(sentences)) as advance:
        embeddings = encoder.encode_tokens(tokens, advance)
    return Run(sentences, embeddings, sum(map(len, tokens)), time.perf_counter() - start)


def answer_questions(encoder: SentenceEncoder, run: Run) -> str:
    """Return the questions, each with the most similar of the run's sentences."""
    vectors = encoder.encode(QUESTIONS)
    answers = (nearest(vector, run.embeddings, run.sentences) for vector in vectors)
    return "\n\n".join(map(format_answers, QUESTIONS, answers))


@contextmanager
def progress_shown(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of ``total`` sentences are done; yield the function to call with each batch's size.

    A terminal gets a moving bar; anything else, say a log, a line at every fifth of the way.
    """
    if console.is_terminal:
        columns = TextColumn("Embedding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=total)
            yield lambda done: progress.advance(task, done)
        return
    finished = 0

    def advance(done: int) -> None:
        nonlocal finished
        before, finished = finished, finished + done
        if 5 * before // total < 5 * finished // total:
            console.print(f"Embedding: {finished:,} of {total:,} sentences")

    yield advance


def shortened(text: str, first: int, last: int) -> str:
    """Return the ``first`` and ``last`` lines of ``text``, with a word on how many lie between."""
    lines = text.splitlines()
    between = len(lines) - first - last
    if between <= 0:
        return text
    return "\n".join([*lines[:first], f"... {between:,} more lines, in report.txt ...", *lines[-last:]])


def write_files(folder: Path, run: Run, report: str) -> None:
    """Write sentences.txt, embeddings.npy and report.txt; none is ever seen half written."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".unfinished-{os.getpid()}.npy"
    try:
        np.save(unfinished, run.embeddings)
        unfinished.replace(folder / "embeddings.npy")
        for name, text in {"sentences.txt": "\n".join(run.sentences) + "\n", "report.txt": report}.items():
            unfinished.write_text(text, encoding="utf-8", newline="\n")
            unfinished.replace(folder / name)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main(prog_name="python -m attngraph.runtime.demo")
