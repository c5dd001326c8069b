"""A text is cut the way it is laid out; the guess says its reason and can be overruled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hydralora.corpus.formats import open_tables
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Rejected, Row, Table
from hydralora.corpus.text_layout import SPEAKERS

SENTENCES = [f"The ladder of hall {i} hangs beside window {i}." for i in range(8)]
WRAPPED = "".join(f"This is line {i:03} of one long text that was wrapped at a margin of\n" for i in range(30))


def only(path: Path, text: str, **options: Any) -> Table:
    path.write_text(text, "utf-8")
    (table,) = open_tables(path, ReadOptions(**options))
    return table


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [row.values for row in table.rows if isinstance(row, Row)]


def test_one_sentence_on_each_line_is_one_text_on_each_line(tmp_path: Path) -> None:
    table = only(tmp_path / "a.txt", "\n".join(SENTENCES))
    assert table.details["layout"] == "lines" and "no blank lines" in table.details["layout_reason"]
    assert rows_of(table) == [{"text": line} for line in SENTENCES]


def test_a_wrapped_text_without_blank_lines_stays_one_document(tmp_path: Path) -> None:
    assert only(tmp_path / "a.txt", WRAPPED).details["layout"] == "document"


def test_the_layout_can_be_chosen(tmp_path: Path) -> None:
    text = "\n\n".join(SENTENCES)
    assert len(rows_of(only(tmp_path / "a.txt", text))) == 1
    assert len(rows_of(only(tmp_path / "a.txt", text, layout="blocks"))) == 8
    assert len(rows_of(only(tmp_path / "a.txt", "\n".join(SENTENCES), layout="document"))) == 1


@pytest.mark.parametrize("separator", ["---", "<|endoftext|>", "*****", "%"])
def test_texts_between_separating_lines_are_blocks(separator: str, tmp_path: Path) -> None:
    texts = [f"{line}\n\n    Indented {i}." for i, line in enumerate(SENTENCES)]
    table = only(tmp_path / "a.txt", f"\n{separator}\n".join(texts))
    assert table.details["layout"] == "blocks" and rows_of(table) == [{"text": text} for text in texts]


def test_rules_above_and_below_a_title_do_not_cut_a_document(tmp_path: Path) -> None:
    text = "*****\nTitle\n*****\n\n" + "\n\n".join(SENTENCES * 8)
    assert only(tmp_path / "a.txt", text).details["layout"] == "document"


@pytest.mark.parametrize("speakers", SPEAKERS)
@pytest.mark.parametrize("form", ["{}: {}", "{}： {}", "{}. {}", "**{}:** {}", "## {}: {}"])
def test_questions_and_answers_are_found_in_many_languages(
    speakers: tuple[str, str], form: str, tmp_path: Path
) -> None:
    question, answer = (word.capitalize() for word in speakers)
    pairs = [form.format(question, line) + "\n" + form.format(answer, f"Yes {i}.") for i, line in enumerate(SENTENCES)]
    table = only(tmp_path / "a.txt", "\n\n".join(pairs))
    assert table.details["layout"] == "questions"
    assert rows_of(table) == [{"prompt": line, "answer": f"Yes {i}."} for i, line in enumerate(SENTENCES)]


def test_white_space_before_the_lines_of_an_answer_is_kept(tmp_path: Path) -> None:
    text = "Q: Write f.\nA:\n    def f():\n        return 1\n\nQ: Write g.\nA:     return 2\n"
    assert rows_of(only(tmp_path / "a.txt", text)) == [
        {"prompt": "Write f.", "answer": "    def f():\n        return 1"},
        {"prompt": "Write g.", "answer": "    return 2"},
    ]


def test_a_question_without_answer_is_rejected_by_its_line(tmp_path: Path) -> None:
    table = only(tmp_path / "a.txt", "Q: a?\nA: b\n\nQ: c?\n\nQ: d?\nA: e\n\nQ: f?\nA: g\n")
    assert [row.row for row in table.rows if isinstance(row, Rejected)] == [4]


def test_prose_that_names_a_question_is_no_list_of_questions(tmp_path: Path) -> None:
    text = "A. Smith came in.\n\nQ: was the name of the ship.\n\n" + "\n\n".join(SENTENCES)
    assert only(tmp_path / "a.txt", text).details["layout"] == "document"


def test_markdown_is_cut_at_its_headings_and_not_inside_of_code(tmp_path: Path) -> None:
    text = "# Shop\n\nOpen.\n\n## Hours\n\nNine to five.\n\n```\n# no heading\n```\n\n# Hall\n\nCold.\n"
    assert rows_of(only(tmp_path / "a.md", text)) == [
        {"text": "# Shop\n\nOpen.", "heading": "Shop"},
        {"text": "## Hours\n\nNine to five.\n\n```\n# no heading\n```", "heading": "Shop > Hours"},
        {"text": "# Hall\n\nCold.", "heading": "Hall"},
    ]


def test_no_text_is_lost_by_any_layout(tmp_path: Path) -> None:
    words = " ".join(SENTENCES).split()
    for joiner in ("\n", "\n\n", "\n---\n"):
        table = only(tmp_path / "a.txt", joiner.join(SENTENCES))
        assert " ".join(row["text"] for row in rows_of(table)).split() == words
