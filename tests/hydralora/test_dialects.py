"""Tables in text are read in the dialect they were written in, whatever the program and the country."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hydralora.corpus.dialect import find_dialect
from hydralora.corpus.formats import open_tables
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Rejected, Row, Table
from hydralora.errors import CorpusError

EXPECTED = [{"Frage": "Wo, bitte?", "Antwort": "Dort; gleich"}, {"Frage": 'Das "Tor"?', "Antwort": "Zu"}]
DIALECTS = {
    "comma": 'Frage,Antwort\n"Wo, bitte?",Dort; gleich\n"Das ""Tor""?",Zu\n',
    "semicolon": 'Frage;Antwort\nWo, bitte?;"Dort; gleich"\n"Das ""Tor""?";Zu\n',
    "tab": 'Frage\tAntwort\nWo, bitte?\tDort; gleich\n"Das ""Tor""?"\tZu\n',
    "bar": 'Frage|Antwort\nWo, bitte?|Dort; gleich\n"Das ""Tor""?"|Zu\n',
    "all quoted": '"Frage","Antwort"\n"Wo, bitte?","Dort; gleich"\n"Das ""Tor""?","Zu"\n',
    "escaped": '"Frage","Antwort"\n"Wo, bitte?","Dort; gleich"\n"Das \\"Tor\\"?","Zu"\n',
    "single quotes": "'Frage','Antwort'\n'Wo, bitte?','Dort; gleich'\n'Das \"Tor\"?','Zu'\n",
    "named": 'sep=;\nFrage;Antwort\nWo, bitte?;"Dort; gleich"\n"Das ""Tor""?";Zu\n',
    "comments": '# exported\n# by nobody, really\nFrage,Antwort\n"Wo, bitte?",Dort; gleich\n"Das ""Tor""?",Zu\n',
    "title": 'FAQ of the shop\n\nFrage,Antwort\n"Wo, bitte?",Dort; gleich\n"Das ""Tor""?",Zu\n',
    "blank lines": '\n\nFrage,Antwort\n\n"Wo, bitte?",Dort; gleich\n\n\n"Das ""Tor""?",Zu\n\n',
    "mark": '\ufeffFrage,Antwort\n"Wo, bitte?",Dort; gleich\n"Das ""Tor""?",Zu\n',
    "old Mac": 'Frage,Antwort\r"Wo, bitte?",Dort; gleich\r"Das ""Tor""?",Zu\r',
    "empty columns": 'Frage,Antwort\n"Wo, bitte?",Dort; gleich,,\n"Das ""Tor""?",Zu,,\n',
}


def only(path: Path, **options: Any) -> Table:
    (table,) = open_tables(path, ReadOptions(**options))
    return table


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [row.values for row in only(path, **options).rows if isinstance(row, Row)]


@pytest.mark.parametrize("name", ["q.csv", "q.txt", "q.tsv", "q.json"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_same_rows_come_out_of_every_dialect(dialect: str, name: str, tmp_path: Path) -> None:
    text = DIALECTS[dialect]
    if name in ("q.txt", "q.json"):  # where the name says nothing, the table must be seen: more rows
        end = "\r" if dialect == "old Mac" else "\n"
        separator = {"semicolon": ";", "named": ";", "tab": "\t", "bar": "|"}.get(dialect, ",")
        more = [
            separator.join(f"{quote}{word}{quote}" for word in ("Wer", "Ich")) + end for quote in quotes(dialect) * 6
        ]
        text += "".join(more)
    (tmp_path / name).write_text(text, "utf-8", newline="")
    assert rows_of(tmp_path / name)[:2] == EXPECTED


def quotes(dialect: str) -> list[str]:
    return {"all quoted": ['"'], "escaped": ['"'], "single quotes": ["'"]}.get(dialect, [""])


def test_semicolons_win_over_a_comma_in_every_answer(tmp_path: Path) -> None:
    lines = "".join(f"Where is hall {i}?;In Lindau, number {i}.\n" for i in range(40))
    (tmp_path / "halls.csv").write_text("question;answer\n" + lines)
    found = rows_of(tmp_path / "halls.csv")
    assert len(found) == 40 and found[7] == {"question": "Where is hall 7?", "answer": "In Lindau, number 7."}
    assert only(tmp_path / "halls.csv").details["delimiter"] == ";"


@pytest.mark.parametrize(
    ("first", "has_header"),
    [
        ("Kundenfrage;Unsere Antwort", True),
        ("質問;回答", True),
        ("Вопрос клиента;Ответ", True),
        ("What did they ask?;Reply", True),
        ("Wie komme ich zur Halle?;Mit dem Bus, alle zehn Minuten.", False),
        ("1;2", False),
        ("Ja;Ja", False),
    ],
)
def test_a_header_is_known_in_any_language(first: str, has_header: bool, tmp_path: Path) -> None:
    rows = "".join(f"Wie komme ich von Halle {i} zum Ausgang {i + 1}?;Immer geradeaus bis Tor {i}.\n" for i in range(9))
    (tmp_path / "q.csv").write_text(f"{first}\n{rows}", "utf-8")
    assert only(tmp_path / "q.csv").has_header is has_header


def test_a_word_that_stands_below_itself_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("ham,See you\nspam,Win now\nham,On my way\nham,Later\n")
    assert only(tmp_path / "q.csv").has_header is False


def test_header_and_delimiter_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("a;b,c\nd;e,f\n")
    assert rows_of(tmp_path / "q.csv", delimiter=",", header=False) == [
        {"column 1": "a;b", "column 2": "c"},
        {"column 1": "d;e", "column 2": "f"},
    ]
    assert rows_of(tmp_path / "q.csv", delimiter=";", header=True) == [{"a": "d", "b,c": "e,f"}]


@pytest.mark.parametrize("options", [{"delimiter": ",,"}, {"delimiter": '"'}, {"layout": "poem"}])
def test_a_choice_that_is_none_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(CorpusError, match=r"must be one character|is not known"):
        ReadOptions(**options)  # type: ignore[arg-type]


def test_a_row_of_another_width_is_named_by_its_number_below_a_title_too(tmp_path: Path) -> None:
    rows = "".join(f"q{i},a{i}\n" for i in range(8))
    (tmp_path / "q.csv").write_text(f"Title\n\nquestion,answer\n{rows}x,y,z\n")
    (rejected,) = [row for row in only(tmp_path / "q.csv").rows if isinstance(row, Rejected)]
    assert rejected == Rejected(12, "Row 12 has 3 fields, the others 2. Check its quotes and delimiters.")


def test_backslashes_that_escape_nothing_are_kept(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text('prompt,answer\n"Say \\"hi\\", please","C:\\\\new\\table, \\n"\n"a\\"b, c",d\n')
    assert rows_of(tmp_path / "q.csv")[0] == {"prompt": 'Say "hi", please', "answer": "C:\\\\new\\table, \\n"}


def test_prose_is_not_taken_for_a_table() -> None:
    prose = "".join(f"The {i}th hall is large, and its windows are high.\n" for i in range(20))
    assert find_dialect(prose).score < 0.9


@pytest.mark.parametrize("name", ["q.csv", "q.tsv", "q.txt"])
def test_json_lines_under_the_name_of_a_table_are_read_as_json(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"text": "a, b", "n": 1}\n{"text": "c", "n": 2}\n')
    assert rows_of(tmp_path / name) == [{"text": "a, b", "n": 1}, {"text": "c", "n": 2}]
    assert only(tmp_path / name).format == "jsonl"


def test_a_table_whose_cells_are_json_stays_a_table(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text('key,val\n1,"{""type"": ""Point""}"\n')
    assert rows_of(tmp_path / "q.csv") == [{"key": "1", "val": '{"type": "Point"}'}]
