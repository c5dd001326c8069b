"""Texts of many languages come out of their encodings as they were written, or are refused; a guess is said to be."""

from __future__ import annotations

import codecs
from pathlib import Path
from random import Random

import pytest

from hydralora.corpus.encodings import ENCODINGS, mended, mojibake
from hydralora.corpus.formats import open_tables
from hydralora.corpus.reading import ReadOptions
from hydralora.corpus.rows import Row, Table
from hydralora.errors import CorpusError

SENTENCES = {
    "Russian": "Где лежит лестница номер три? Лестница лежит в зале номер семь, рядом с окном. Спросите у дежурного.",
    "Ukrainian": "Де лежить драбина номер три? Драбина лежить у залі номер сім, поряд із вікном. Її ім'я Ганна.",
    "Chinese": "三号仓库的梯子放在哪里？梯子放在七号大厅的窗户旁边。请问值班的人，他总是知道答案。",
    "Chinese of Taiwan": "三號倉庫的梯子放在哪裡？梯子放在七號大廳的窗戶旁邊。請問值班的人，他總是知道答案。",
    "Japanese": "三番の倉庫のはしごはどこにありますか。はしごは七番のホールの窓のそばにあります。",
    "Japanese, few words": "5番の傘はどこですか？ 5番の廊下の棚です。",
    "Korean": "삼번 창고의 사다리는 어디에 있습니까? 사다리는 칠번 홀의 창문 옆에 있습니다.",
    "German": "Wo liegt die Leiter für die Küche? Die Leiter hängt über der Tür, Fräulein Groß weiß es natürlich.",
    "French": "Où se trouve l'échelle du troisième dépôt ? À côté de la fenêtre, près de l'entrée, ça ira très bien.",
    "Spanish": "¿Dónde está la escalera del almacén? Detrás del armario. Pregunte mañana al señor Núñez, él lo sabrá.",
    "Portuguese": "Onde está a escada do armazém número três? Não está aqui. Pergunte à direção amanhã de manhã.",
    "Polish": "Gdzie leży drabina numer trzy? Proszę zapytać dyżurnego, zawsze wie, gdzie są książki i żółte łóżko.",
    "Czech": "Kde leží žebřík číslo tři? Zeptejte se strážného, vždycky ví, kde je příliš žluťoučký kůň.",
    "Hungarian": "Hol van a hármas számú létra? Kérdezze meg az ügyeletest, ő mindig tudja, hol a fűrész és a bőrönd.",
    "Greek": "Πού βρίσκεται η σκάλα νούμερο τρία; Η σκάλα βρίσκεται στην αίθουσα επτά, δίπλα στο παράθυρο.",
    "Turkish": "Üç numaralı merdiven nerede? Görevliye sorun, o her şeyi bilir, ışığı açık bırakmayın, şalter bozuk.",
    "Hebrew": "איפה נמצא הסולם מספר שלוש? הסולם נמצא באולם מספר שבע ליד החלון. שאלו את השומר.",
    "Arabic": "أين يوجد السلم رقم ثلاثة؟ يوجد السلم في القاعة رقم سبعة بجانب النافذة. اسأل الحارس.",
    "Lithuanian": "Kur yra kopėčios numeris trys? Paklauskite budėtojo, jis visada žino, kur čiužinys ir įrankiai.",
    "Thai": "บันไดหมายเลขสามอยู่ที่ไหน บันไดอยู่ในห้องหมายเลขเจ็ดข้างหน้าต่าง ถามยามสิ",
}
WRITTEN_IN = {
    "Russian": ["cp1251", "koi8-r", "iso8859-5", "cp866", "mac-cyrillic"],
    "Ukrainian": ["koi8-u", "cp1251"],
    "Chinese": ["gbk", "gb18030"],
    "Chinese of Taiwan": ["big5", "cp950"],
    "Japanese": ["shift_jis", "cp932", "euc_jp", "iso2022_jp"],
    "Japanese, few words": ["shift_jis", "cp932", "euc_jp"],
    "Korean": ["euc_kr", "cp949"],
    "German": ["cp1252", "iso8859-1", "iso8859-15", "mac-roman", "cp850"],
    "French": ["cp1252", "mac-roman"],
    "Spanish": ["cp1252", "iso8859-1"],
    "Portuguese": ["cp1252"],
    "Polish": ["cp1250", "iso8859-2"],
    "Czech": ["cp1250", "iso8859-2"],
    "Hungarian": ["cp1250"],
    "Greek": ["cp1253", "iso8859-7"],
    "Turkish": ["cp1254", "iso8859-9"],
    "Hebrew": ["cp1255", "iso8859-8"],
    "Arabic": ["cp1256", "iso8859-6"],
    "Lithuanian": ["cp1257", "iso8859-13"],
    "Thai": ["cp874"],
}
WIDE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
PAIRS = [(language, encoding) for language in SENTENCES for encoding in WRITTEN_IN[language]]


def only(path: Path, **options: str) -> Table:
    (table,) = open_tables(path, ReadOptions(**options))  # type: ignore[arg-type]
    return table


def written(path: Path, text: str, encoding: str) -> Path:
    path.write_bytes(f'question,answer\nAsk 1,"{text}"\nAsk 2,"{text}"\n'.encode(encoding))
    return path


def answers(table: Table) -> list[str]:
    return [row.values["answer"] for row in table.rows if isinstance(row, Row)]


@pytest.mark.parametrize(("language", "encoding"), PAIRS)
def test_a_text_comes_out_of_its_encoding_as_it_was_written(language: str, encoding: str, tmp_path: Path) -> None:
    table = only(written(tmp_path / "q.csv", SENTENCES[language], encoding))
    assert answers(table) == [SENTENCES[language]] * 2
    assert table.details["encoding_sure"] == ("yes" if encoding == "iso2022_jp" else "no")
    assert codecs.lookup(table.details["encoding"]) and table.details["encoding_reason"]


@pytest.mark.parametrize("language", ["German", "Russian", "Japanese"])
@pytest.mark.parametrize("encoding", WIDE)
def test_unicode_is_known_with_and_without_its_mark(encoding: str, language: str, tmp_path: Path) -> None:
    table = only(written(tmp_path / "q.csv", SENTENCES[language], encoding))
    assert answers(table) == [SENTENCES[language]] * 2 and table.details["encoding_sure"] == "yes"


@pytest.mark.parametrize(("lines", "is_sure"), [(100, "yes"), (30_000, "no")])
def test_a_preview_that_has_not_seen_all_bytes_is_not_sure_of_the_encoding(
    lines: int, is_sure: str, tmp_path: Path
) -> None:
    (tmp_path / "q.csv").write_text("question,answer\n" + "Where?,There.\n" * lines, "utf-8")
    looked = next(open_tables(tmp_path / "q.csv", ReadOptions(head_only=True)))
    assert (looked.details["encoding"], looked.details["encoding_sure"]) == ("utf-8", is_sure)
    assert only(tmp_path / "q.csv").details["encoding_sure"] == "yes"


def test_letters_that_come_late_in_a_file_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    text = "question,answer\n" + "plain,letters\n" * 200_000 + f"x,{SENTENCES['Russian']}\n".replace(", ", " ")
    path.write_bytes(text.encode("cp1251"))
    assert only(path).details["encoding"] == "cp1251"
    assert only(path, head_only=True).details["encoding"] == "cp1251"  # type: ignore[arg-type]


def test_the_encoding_can_be_chosen(tmp_path: Path) -> None:
    path = written(tmp_path / "q.csv", "žluťoučký", "iso8859-2")
    table = only(path, encoding="iso8859-2")
    assert answers(table) == ["žluťoučký"] * 2 and table.details["encoding_reason"] == "it was chosen"


@pytest.mark.parametrize("head", ['<meta charset="koi8-r">', "<meta http-equiv=x content='text/html; charset=KOI8-R'>"])
def test_a_page_is_read_in_the_encoding_that_it_declares(head: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(f"<html><head>{head}</head><body><p>Да и нет</p></body></html>".encode("koi8-r"))
    table = only(tmp_path / "a.html")
    assert [row.values["text"] for row in table.rows if isinstance(row, Row)] == ["Да и нет"]
    assert table.details["encoding_reason"] == "the page declares it"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii-art", "rot13", "zlib"])
def test_an_encoding_that_does_not_fit_or_is_none_is_refused(encoding: str, tmp_path: Path) -> None:
    path = written(tmp_path / "q.csv", "Küche", "cp1252")
    with pytest.raises(CorpusError, match=r"does not fit the encoding utf-8|The encoding '.*' is not known"):
        only(path, encoding=encoding)


def test_bytes_that_are_letters_in_no_encoding_are_refused_and_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_bytes(b"question,answer\n" + bytes(Random(0).choices([10, 44, *range(128, 256)], k=2000)))
    with pytest.raises(CorpusError, match=r"byte \d+ is not UTF-8, and no other encoding gives usual letters"):
        only(path)


def test_every_encoding_that_can_be_chosen_is_one() -> None:
    assert len({codecs.lookup(name).name for name in ENCODINGS}) >= 51


@pytest.mark.parametrize("language", ["German", "French", "Russian", "Chinese"])
def test_a_text_that_was_once_read_in_a_wrong_encoding_is_counted_and_shown(language: str, tmp_path: Path) -> None:
    raw = SENTENCES[language].encode("utf-8")
    garbled = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in raw)
    table = only(written(tmp_path / "q.csv", garbled, "utf-8"))
    assert "places such as `" in table.details["mojibake"]


@pytest.mark.parametrize("language", SENTENCES)
def test_a_text_that_is_as_it_should_be_is_not_called_garbled(language: str) -> None:
    assert mojibake(SENTENCES[language] * 3) == []


def test_what_a_garbled_place_stood_for_is_told() -> None:
    assert [mended(place) for place in ("Ã¤", "â€™", "Ð´Ð°")] == ["ä", "’", "да"]
