"""Columns find their parts by names and contents, in any language, and every column says why it has its part."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.role_columns import Guess
from hydralora.corpus.roles import guess_roles
from hydralora.errors import CorpusError
from hydralora.results import CorpusManifest, Roles

Rows = list[tuple[str, str, str]]
ENGLISH: Rows = [
    ("Where is my parcel?", "It was sent on Monday and will arrive soon.", "Shipping"),
    ("How can I pay?", "By card, or by an invoice that we send.", "Billing"),
    ("My lamp is broken.", "Send it back to us, and we repair it.", "Service"),
    ("Can I cancel my order?", "Yes, within two days of ordering.", "Billing"),
    ("Do you ship abroad?", "Yes, to every country of Europe.", "Shipping"),
    ("Who mends clocks?", "Our own workshop does, since 1990.", "Service"),
]
GERMAN: Rows = [
    ("Wo bleibt mein Paket?", "Wir haben es am Montag verschickt.", "Versand"),
    ("Wie kann ich bezahlen?", "Mit Karte oder auf Rechnung.", "Rechnung"),
    ("Meine Lampe ist kaputt.", "Senden Sie sie zurück, wir reparieren sie.", "Werkstatt"),
    ("Kann ich stornieren?", "Ja, innerhalb von zwei Tagen.", "Rechnung"),
    ("Liefern Sie ins Ausland?", "Ja, in jedes Land Europas.", "Versand"),
    ("Wer repariert Uhren?", "Unsere eigene Werkstatt.", "Werkstatt"),
]
CHINESE: Rows = [
    ("我的包裹在哪里？", "我们周一已经寄出了。", "物流"),
    ("怎样付款？", "您可以刷卡或者按发票付款。", "财务"),
    ("我的灯坏了。", "请寄回给我们，我们会修理。", "服务"),
    ("可以取消订单吗？", "可以，两天之内都行。", "财务"),
    ("你们寄到国外吗？", "寄，欧洲各国都可以。", "物流"),
    ("谁修理钟表？", "我们自己的工坊修理。", "服务"),
]
RUSSIAN: Rows = [
    ("Где моя посылка?", "Мы отправили её в понедельник.", "Доставка"),
    ("Как можно заплатить?", "Картой или по счёту.", "Оплата"),
    ("Моя лампа сломалась.", "Пришлите её нам, мы починим.", "Сервис"),
    ("Можно отменить заказ?", "Да, в течение двух дней.", "Оплата"),
    ("Вы шлёте за границу?", "Да, во все страны Европы.", "Доставка"),
    ("Кто чинит часы?", "Наша собственная мастерская.", "Сервис"),
]
HEADERS = [
    (["Ticket", "Received", "Customer question", "What we reply", "Team"], ENGLISH),
    (["Vorgang", "Eingang", "Kundenfrage", "Unsere Antwort", "Abteilung"], GERMAN),
    (["N°", "Reçu le", "Demande du client", "Notre réponse", "Équipe"], ENGLISH),
    (["Núm", "Fecha", "Pregunta del cliente", "Nuestra respuesta", "Equipo"], ENGLISH),
    (["编号", "日期", "客户问题", "我们的回复", "部门"], CHINESE),
    (["Номер", "Дата", "Вопрос клиента", "Наш ответ", "Отдел"], RUSSIAN),
    (["f1", "f2", "f3", "f4", "f5"], ENGLISH),
    (["v", "w", "x", "y", "z"], CHINESE),
]


def table(folder: Path, header: list[str], rows: Rows) -> Path:
    """A help desk's export: an id, a date, a question, an answer and a team."""
    path = folder / "tickets.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(header)
        writer.writerows([f"T-{1000 + i}", f"2024-01-0{i + 1}", *row] for i, row in enumerate(rows))
    return path


def read(path: Path, **settings: object) -> CorpusManifest:
    return import_corpus([path], path.parent / "corpus", **settings)  # type: ignore[arg-type]


def guess(rows: list[dict[str, object]], given: Roles | None = None) -> Guess:
    return guess_roles(list(rows[0]), rows, given=given)


@pytest.mark.parametrize(("header", "rows"), HEADERS, ids=[header[2] for header, _ in HEADERS])
def test_a_help_desks_export_is_understood_in_any_language(header: list[str], rows: Rows, tmp_path: Path) -> None:
    manifest = read(table(tmp_path, header, rows))
    assert (manifest.roles.prompt, manifest.roles.answer, manifest.roles.label) == ((header[2],), header[3], header[4])
    assert manifest.unused == header[:2] and manifest.examples == 6


def test_every_column_says_why_it_plays_its_part_or_none(tmp_path: Path) -> None:
    manifest = read(table(tmp_path, HEADERS[-2][0], ENGLISH))
    assert set(manifest.reasons) == set(manifest.columns) and all(manifest.reasons.values())
    assert "question mark" in manifest.reasons["f3"] and manifest.reasons["f2"] == "dates"
    assert "3 different short values" in manifest.reasons["f5"]


def test_a_split_is_known_by_its_values() -> None:
    rows = [
        {"q": f"What is {i} plus one?", "a": f"It is {i + 1}.", "use": "test" if i % 3 else "train"} for i in range(9)
    ]
    assert guess(rows).roles["split"] == "use"


def test_the_worse_answer_of_a_preference_is_never_the_answer() -> None:
    rows = [{"q": f"Where is {i}?", "rejected": "Find it yourself.", "chosen": f"In hall {i}."} for i in range(6)]
    assert guess(rows).roles["answer"] == "chosen" and guess(rows).roles["rejected"] == "rejected"


def test_a_mark_of_good_answers_is_no_label() -> None:
    rows = [{"prompt": f"Where is {i}?", "completion": "Here it is.", "label": i % 2 == 0} for i in range(6)]
    assert guess(rows).roles["mark"] == "label" and "label" not in guess(rows).roles


def test_columns_that_say_nothing_end_in_a_sentence_with_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text("width,height\n" + "1,2\n" * 8)
    with pytest.raises(CorpusError, match=r"found: width, height\. .*--prompt COLUMN --answer COLUMN, now"):
        read(path)


def test_a_role_that_is_chosen_stays_and_the_others_are_guessed(tmp_path: Path) -> None:
    path = table(tmp_path, HEADERS[0][0], ENGLISH)
    manifest = read(path, roles=Roles(label="Ticket"))
    assert manifest.roles.label == "Ticket" and manifest.roles.answer == "What we reply"
    manifest = read(path, roles=Roles(prompt=("What we reply",), answer="Customer question"))
    assert manifest.roles.answer == "Customer question" and manifest.roles.label == "Team"
    assert manifest.reasons["Customer question"] == "it was chosen"


def test_a_prompt_that_is_chosen_gets_no_further_columns() -> None:
    rows = [{"question": f"Where is {i}?", "context": f"Hall {i} is red.", "answer": "Here."} for i in range(6)]
    assert guess(rows).roles["prompt"] == ("question", "context")
    assert guess(rows, Roles(prompt=("question",))).roles["prompt"] == ("question",)


def test_roles_that_were_all_left_empty_are_guessed_anew(tmp_path: Path) -> None:
    path = table(tmp_path, HEADERS[0][0], ENGLISH)
    manifest = read(path, roles=Roles(prompt=(), answer="", text="", messages="", label=""))
    assert manifest.roles.answer == "What we reply" and manifest.roles.label == ""


def test_a_column_that_is_not_to_be_used_is_not(tmp_path: Path) -> None:
    manifest = read(table(tmp_path, HEADERS[0][0], ENGLISH), roles=Roles(unused=("Team",)))
    assert manifest.roles.label == "" and manifest.unused == ["Ticket", "Received", "Team"]
    with pytest.raises(CorpusError, match="has no column `Tean`"):
        read(tmp_path / "tickets.csv", roles=Roles(unused=("Tean",)))


NAMES = {
    ("train.jsonl", "test.jsonl"): (["train", "held_out"], ["", ""]),
    ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"): (["", ""], ["", ""]),
    ("anatomy_test.jsonl", "virology_test.jsonl"): (["", ""], ["anatomy", "virology"]),
    ("french.jsonl", "german.jsonl"): (["", ""], ["french", "german"]),
    ("contest.jsonl",): ([""], [""]),
}


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_the_names_of_files_are_the_split_or_the_label(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text('{"prompt": "a", "answer": "b"}\n' * 2)
    splits, labels = NAMES[names]
    if set(splits) == {""} and "train" in names[0]:
        splits = ["train"] * 2  # shards of one part
    import_corpus([tmp_path / name for name in names], tmp_path / "corpus")
    examples = list(Corpus(tmp_path / "corpus"))[::2]
    assert ([e.split for e in examples], [e.label for e in examples]) == (splits, labels)


def test_names_of_files_say_nothing_where_that_is_not_wanted(tmp_path: Path) -> None:
    from hydralora.results import ImportOptions

    paths = [tmp_path / "train.jsonl", tmp_path / "test.jsonl"]
    for path in paths:
        path.write_text('{"prompt": "a", "answer": "b"}\n' * 2)
    manifest = import_corpus(paths, tmp_path / "corpus", options=ImportOptions(file_names=False))
    assert manifest.splits == {} and not manifest.notes
