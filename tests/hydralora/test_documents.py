"""Documents give their text, or their tables; what holds none is refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfWriter

from hydralora.corpus.formats import open_tables
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Rejected, Row
from hydralora.errors import CorpusError
from tests.hydralora.office import docx, epub, pack, paragraph, pdf, table

FAQ = [["Frage", "Antwort"], ["Wo ist die Leiter?", "In Halle 3."], ["Und die Lampe?", "Am Fenster."]]
PAGE = """<!doctype html><html><head><title>Shop</title><style>p {color: red}</style></head><body>
<script>alert("never a text")</script><h1>Opening  hours</h1><p>From <b>nine</b> to
five.</p><ul><li>Closed on Sunday</li></ul><h2>Parking</h2><p>Behind the house.<br>It is free.</p>
<pre>def f():
    return 1</pre></body></html>"""


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    tables = open_tables(path, ReadOptions(**options))
    return [row.values for each in tables for row in each.rows if isinstance(row, Row)]


@pytest.mark.parametrize("name", ["page.html", "page.txt", "page"])
def test_a_web_page_gives_its_text_below_headings_and_no_script(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(PAGE, "utf-8")
    assert rows_of(tmp_path / name) == [
        {"text": "# Opening hours\n\nFrom nine to five.\n\n- Closed on Sunday", "heading": "Opening hours"},
        {
            "text": "## Parking\n\nBehind the house.\nIt is free.\n\ndef f():\n    return 1",
            "heading": "Opening hours > Parking",
        },
    ]


def test_a_page_that_is_mostly_a_table_gives_its_rows(tmp_path: Path) -> None:
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in FAQ)
    (tmp_path / "export.xls").write_text(f"<html><body><p>FAQ</p><table>{lines}</table></body></html>")
    assert rows_of(tmp_path / "export.xls") == [dict(zip(FAQ[0], row, strict=True)) for row in FAQ[1:]]


def test_a_page_of_elements_very_deep_in_each_other_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.html").write_text("<html>" + "<div>" * 50_000 + "text")
    with pytest.raises(CorpusError, match=r"deep.html has elements more than 1,000 deep"):
        rows_of(tmp_path / "deep.html")


def test_a_docx_gives_its_text_below_headings_in_any_language(tmp_path: Path) -> None:
    body = (
        paragraph("Kasse", "berschrift1") + paragraph("Die Kasse öffnet um neun.") + paragraph("Halle", "berschrift1")
    )
    body += "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>Neu</w:t></w:r></w:ins></w:p>"
    assert rows_of(docx(tmp_path / "a.docx", body)) == [
        {"text": "# Kasse\n\nDie Kasse öffnet um neun.", "heading": "Kasse"},
        {"text": "# Halle\n\nNeu", "heading": "Halle"},
    ]


def test_a_docx_that_is_mostly_a_table_gives_its_rows(tmp_path: Path) -> None:
    path = docx(tmp_path / "faq.docx", paragraph("FAQ") + table(FAQ))
    (found,) = open_tables(path)
    assert found.source == "faq.docx: table 1"
    assert [row.values for row in found.rows if isinstance(row, Row)] == [
        dict(zip(FAQ[0], row, strict=True)) for row in FAQ[1:]
    ]


def test_questions_and_answers_in_a_document_are_found(tmp_path: Path) -> None:
    body = "".join(paragraph(f"Frage: Wo ist {i}?") + paragraph(f"Antwort: In Halle {i}.") for i in range(3))
    assert rows_of(docx(tmp_path / "faq.docx", body))[2] == {"prompt": "Wo ist 2?", "answer": "In Halle 2."}


def test_a_docx_with_entities_or_without_text_is_refused(tmp_path: Path) -> None:
    path = docx(tmp_path / "empty.docx", "<w:p/>")
    with pytest.raises(CorpusError, match=r"empty.docx holds no text"):
        rows_of(path)
    lol = '<!DOCTYPE d [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]><w:document/>'
    with pytest.raises(CorpusError, match=r"lol.docx is a damaged DOCX file"):
        rows_of(pack(tmp_path / "lol.docx", {"word/document.xml": lol}))


def test_a_book_gives_its_chapters_in_reading_order(tmp_path: Path) -> None:
    pages = [f"<html><body><h1>Chapter {i}</h1><p>Text {i}.</p></body></html>" for i in range(3)]
    assert [row["heading"] for row in rows_of(epub(tmp_path / "a.epub", pages))] == [f"Chapter {i}" for i in range(3)]


def test_a_book_protected_against_copying_is_refused(tmp_path: Path) -> None:
    locked = {"META-INF/encryption.xml": "<e><EncryptionMethod Algorithm='aes256'/></e>"}
    with pytest.raises(CorpusError, match=r"a.epub is protected against copying"):
        rows_of(epub(tmp_path / "a.epub", ["<html><body><p>x</p></body></html>"], locked))


@pytest.mark.parametrize("name", ["a.pdf", "a.txt"])
def test_a_pdf_gives_the_text_of_each_page_and_says_which_hold_none(name: str, tmp_path: Path) -> None:
    pdf(tmp_path / name, ["The ladder hangs in hall 3.", "", "The lamp stands at the window."])
    (found,) = open_tables(tmp_path / name)
    assert list(found.rows) == [
        Row(1, {"text": "The ladder hangs in hall 3."}),
        Rejected(2, "Page 2 holds no text, perhaps a picture of it."),
        Row(3, {"text": "The lamp stands at the window."}),
    ]


def test_questions_and_answers_in_a_pdf_are_found(tmp_path: Path) -> None:
    path = pdf(tmp_path / "faq.pdf", [f"Q: Where is box {i}?\nA: In hall {i}." for i in range(3)])
    assert rows_of(path)[1] == {"prompt": "Where is box 1?", "answer": "In hall 1."}


def test_a_pdf_of_pictures_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"scan.pdf holds pictures of its 2 pages and no text.*OCR"):
        rows_of(pdf(tmp_path / "scan.pdf", ["", ""]))


@pytest.mark.parametrize(("password", "is_read"), [("", True), ("secret", False)])
def test_a_pdf_that_needs_a_password_is_refused_and_one_that_does_not_is_read(
    password: str, is_read: bool, tmp_path: Path
) -> None:
    writer = PdfWriter(clone_from=pdf(tmp_path / "a.pdf", ["The ladder hangs in hall 3."]))
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")
    writer.write(tmp_path / "locked.pdf")
    if is_read:
        assert rows_of(tmp_path / "locked.pdf") == [{"text": "The ladder hangs in hall 3."}]
        return
    with pytest.raises(CorpusError, match=r"locked.pdf is protected by a password. Save it without one."):
        rows_of(tmp_path / "locked.pdf")


def test_a_damaged_pdf_is_one_sentence(tmp_path: Path) -> None:
    whole = pdf(tmp_path / "a.pdf", ["x" * 50] * 3).read_bytes()
    for number, data in enumerate([b"%PDF-1.4\n1 0 obj << /Type /Catalog >> endobj\n", whole[:200], whole[200:400]]):
        path = tmp_path / f"{number}.pdf"
        path.write_bytes(b"%PDF-1.4\n" + data)
        with pytest.raises(CorpusError) as error:
            rows_of(path)
        assert path.name in str(error.value) and "\n" not in str(error.value)


def test_formatting_elements_left_open_are_refused_before_the_page_is_parsed(tmp_path: Path) -> None:
    page = "".join(f"<b x={i}>" for i in range(51)) + "<p>words" * 100
    (tmp_path / "a.html").write_text(f"<html><body>{page}</body></html>")
    with pytest.raises(CorpusError, match=r"a.html leaves more than 50 formatting elements such as `<b>` open"):
        list(open_tables(tmp_path / "a.html"))


@pytest.mark.parametrize(
    "page",
    ["<p><b>words" * 100, "".join(f"<p><code id={i}>words</code>" for i in range(100)), "<a href=x>words" * 100],
)
def test_a_careless_page_is_read(page: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(f"<html><body>{page}</body></html>")
    (table,) = open_tables(tmp_path / "a.html")
    assert "words" in str([row.values for row in table.rows if isinstance(row, Row)])
