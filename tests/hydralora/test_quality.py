"""The quality report counts what it says, and what can be left out is exactly that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from py3langid import classify

from hydralora.bases.load import load_tokenizer
from hydralora.config import TrainConfig
from hydralora.corpus.encode import IGNORED, encode_whole
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.pairs import encode_pair, pair_tokens
from hydralora.corpus.quality.findings import read_finding
from hydralora.corpus.quality.languages import Teller
from hydralora.corpus.quality.lengths import count_tokens
from hydralora.corpus.quality.report import check_corpus, read_texts
from hydralora.corpus.quality.sketches import bands_of, candidates_among, nearest, short_names, sketch
from hydralora.corpus.selection import write_selection
from hydralora.corpus.split import split_examples
from hydralora.errors import CorpusError
from hydralora.results import Finding, Quality
from hydralora.results.quality import UNTOLD
from tests.hydralora.conftest import write_lines

THINGS = ("a ladder", "the blue lamp", "an old door", "the red boat", "a clock", "the map", "a rope", "some paint")
PLACES = ("Lindau", "Bregenz", "Konstanz", "Meersburg", "Arbon", "Romanshorn")


def rows(count: int = 48) -> list[dict[str, Any]]:
    """Questions that have few words in common, each with an answer of its own."""
    return [
        {
            "prompt": f"Where in {PLACES[i % 6]} is {THINGS[i % 8]} number {i}, and who has had it since {1900 + i}?",
            "answer": f"On shelf {i} of hall {i * 7 % 11}, behind the door that says {THINGS[(i + 3) % 8]}.",
        }
        for i in range(count)
    ]


def keep(folder: Path, data: list[dict[str, Any]]) -> Path:
    import_corpus([write_lines(folder / "rows.jsonl", data)], folder / "corpus")
    return folder / "corpus"


def check(folder: Path, data: list[dict[str, Any]], base: str = "", **train: Any) -> Quality:
    return check_corpus(keep(folder, data), TrainConfig(**{"held_out_fraction": 0.2, **train}), base=base)


def finding(report: Quality, kind: str) -> Finding | None:
    return next((one for one in report.findings if one.kind == kind), None)


def test_a_clean_corpus_has_no_finding(tmp_path: Path) -> None:
    report = check(tmp_path, rows())
    assert report.findings == [] and report.sentence.startswith("Nothing is wrong with these 48 examples")
    assert report.train + report.held_out == 48 and report.held_out > 0


def test_prompts_of_another_corpus_are_told_and_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    there = keep(tmp_path / "there", [{**row, "answer": "Elsewhere."} for row in rows(12)])
    folder, train = keep(tmp_path, rows()), TrainConfig(held_out_fraction=0.2)
    report = check_corpus(folder, train, others={"FAQ (7)": there, "gone": tmp_path / "gone"})
    told = finding(report, "elsewhere")
    trained = set(range(12)) - set(split_examples(Corpus(folder), train).held_out)
    assert told is not None and told.count == told.removable == len(trained) > 0
    assert set(read_finding(folder, "elsewhere")) == trained
    assert f"'FAQ (7)' ({len(trained)} prompts)" in told.advice


def test_copies_are_counted_and_one_of_each_is_kept(tmp_path: Path) -> None:
    data = rows()
    found = finding(check(tmp_path, [*data, data[3], data[3], data[5]]), "copies")
    assert found is not None and (found.count, found.removable) == (3, 3)
    assert found.title == "3 examples are copies of another."
    assert read_finding(tmp_path / "corpus", "copies", removable=True).tolist() == [48, 49, 50]


def test_near_copies_are_found_among_many_that_are_none(tmp_path: Path) -> None:
    long = "The hall plan says that every rope, lamp and ladder has a shelf of its own which nobody may change. " * 3
    data = [*rows(), {"prompt": long + "Why?", "answer": "So."}, {"prompt": long + "Why so?", "answer": "So."}]
    found = finding(check(tmp_path, data), "near copies")
    assert found is not None and found.examples == [49]


def test_a_prompt_with_two_answers_is_a_contradiction_and_a_copy_is_none(tmp_path: Path) -> None:
    data = rows()
    again = {"prompt": data[7]["prompt"], "answer": "Nobody knows that any more."}
    report = check(tmp_path, [*data, again, data[9]])
    found = finding(report, "contradictions")
    assert found is not None and found.examples == [7, 48] and found.removable == 1
    assert read_finding(tmp_path / "corpus", "contradictions", removable=True).tolist() == [48]


def test_a_prompt_that_nearly_is_a_held_out_one_leaks(tmp_path: Path) -> None:
    long = "Where in the hall of the old harbour by the lake is the ladder with the seven red rungs kept at night, and "
    data = [{**row, "split": "train"} for row in rows()]
    data += [{"prompt": f"{long}who told you?", "answer": "There.", "split": "train"}]
    data += [{"prompt": f"{long}who told you so?", "answer": "Here.", "split": "test"}]
    found = finding(check(tmp_path, data), "leaks")
    assert found is not None and found.examples == [48] and found.removable == 1


@pytest.mark.parametrize("answer", ["-", "...", "n/a", "None", "[deleted]"])
def test_an_answer_that_says_nothing_is_blank(tmp_path: Path, answer: str) -> None:
    data = rows()
    data[4] = {**data[4], "answer": answer}
    found = finding(check(tmp_path, data), "blank")
    assert found is not None and found.examples == [4]


@pytest.mark.parametrize("answer", ["7", "No.", "是"])
def test_a_short_answer_is_no_blank_one(tmp_path: Path, answer: str) -> None:
    report = check(tmp_path, [{**row, "answer": answer} for row in rows()])
    assert finding(report, "blank") is None and finding(report, "short") is None


def test_an_answer_far_shorter_than_most_is_told(tmp_path: Path) -> None:
    data = [{**row, "answer": row["answer"] * 5} for row in rows()]
    data[11] = {**data[11], "answer": "On shelf"}
    found = finding(check(tmp_path, data), "short")
    assert found is not None and found.examples == [11]


@pytest.mark.parametrize("mark", ["<|im_start|>", "</s>", "[INST]", "<start_of_turn>", "\n### Response:\n"])
def test_marks_of_a_chat_template_inside_a_text_are_told(tmp_path: Path, mark: str) -> None:
    data = rows()
    data[2] = {**data[2], "answer": f"On shelf 1. {mark} And more."}
    found = finding(check(tmp_path, data), "marks")
    assert found is not None and found.examples == [2] and mark.strip() in found.advice


def test_a_text_in_which_many_have_run_together_is_an_outlier(tmp_path: Path) -> None:
    data = rows()
    data[6] = {**data[6], "answer": " ".join(row["answer"] for row in rows(200))}
    found = finding(check(tmp_path, data), "outliers")
    assert found is not None and found.examples == [6]


def test_the_mix_of_languages_is_told_with_the_rare_ones(tmp_path: Path) -> None:
    data = rows()
    german = "Die alte Leiter steht seit vielen Jahren hinter der blauen Tür, und niemand weiß, wem sie gehört."
    data[1] = {"prompt": german, "answer": german[::1] + " Wirklich niemand."}
    report = check(tmp_path, data)
    found = finding(report, "languages")
    assert report.languages["en"] > 0.9 and report.languages["de"] == pytest.approx(1 / 48)
    assert found is not None and found.examples == [1] and found.removable == 0


def test_languages_of_a_batch_are_those_that_py3langid_tells_one_by_one() -> None:
    texts = [
        "Die alte Leiter steht seit vielen Jahren hinter der blauen Tür, und niemand weiß, wem sie gehört.",
        "WHERE IS THE OLD LADDER, AND WHO HAS HAD IT SINCE LAST YEAR?",
        "Стара лестница стои зад синята врата от много години.",
        "老梯子多年来一直立在蓝色的门后面，没有人知道它属于谁，也没有人去问。",
        "Zdravo svima, kako ste danas dragi prijatelji moji",
        "Здраво свима, како сте данас драги пријатељи моји",
        "Cafe\u0301 noir, e\u0301te\u0301 long et journe\u0301es d'hiver a\u0300 la campagne",
        "for (int i = 0; i < n; ++i) { sum += values[i]; } return sum;",
        "12345 67890 12345 67890",
    ]
    teller = Teller()
    told = [teller.names[number] for number in teller.tell(texts)]
    assert told == [classify(text)[0] for text in texts] and {"de", "en", "bg", "zh", "sr"} < set(told)
    assert teller.tell(["too short", "- - - - - - - - - - - - - -", ""]).tolist() == [UNTOLD] * 3


def test_only_texts_with_a_band_in_common_are_candidates() -> None:
    words = " ".join(f"word{i}" for i in range(80))
    sketches = sketch([f"{words} one", "nothing of the kind at all", f"{words} two", "quite another text again"])
    assert candidates_among(short_names(bands_of(sketches))).tolist() == [True, False, True, False]


def test_what_is_left_out_already_is_not_looked_at(tmp_path: Path) -> None:
    data = rows()
    folder = keep(tmp_path, [*data, data[3]])
    selection = write_selection(folder, [48])
    report = check_corpus(folder, TrainConfig(selection=selection))
    assert (report.examples, report.findings, report.selection) == (48, [], selection)


def test_examples_that_would_be_cut_or_left_out_are_exactly_those_of_training(
    base_folder: Path, tmp_path: Path
) -> None:
    data = rows()
    data[3] = {**data[3], "answer": data[3]["answer"] * 12}
    data[8] = {**data[8], "prompt": data[8]["prompt"] * 12}
    report = check(tmp_path, data, base=str(base_folder), max_length=160)
    tokenizer = load_tokenizer(str(base_folder))
    labels = [encode_whole(tokenizer, example)["labels"] for example in Corpus(tmp_path / "corpus")]
    prompts = [next(i for i, label in enumerate(row) if label != IGNORED) for row in labels]
    unfit = [i for i, prompt in enumerate(prompts) if prompt + 1 >= 160]
    cut = [i for i, row in enumerate(labels) if len(row) > 160 and i not in unfit]
    assert (cut, unfit) == ([3], [8])
    kinds = {one.kind: one.examples for one in report.findings}
    assert (kinds["cut"], kinds["unfit"]) == (cut, unfit)
    assert report.lengths is not None and report.lengths.longest == max(map(len, labels))
    assert f"`max_length` to {len(labels[3]):,}" in report.findings[0].advice


def test_a_rare_long_conversation_is_cut_and_not_left_out(base_folder: Path, tmp_path: Path) -> None:
    data: list[dict[str, Any]] = [{"messages": talk(1, i)} for i in range(40)]
    data[17] = {"messages": talk(12, 17)}
    report = check(tmp_path, data, base=str(base_folder), max_length=160)
    kinds = {one.kind: one.examples for one in report.findings}
    assert kinds.get("cut") == [17] and "unfit" not in kinds


def talk(rounds: int, number: int) -> list[dict[str, str]]:
    said = [(f"What of {number} and {i}?", f"On shelf {i} of hall {number}.") for i in range(rounds)]
    return [
        {"role": role, "content": text} for pair in said for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def test_one_question_under_two_system_texts_is_no_contradiction(tmp_path: Path) -> None:
    data = rows()
    data += [{**data[5], "system": "Answer as a pirate.", "answer": "Arr, on shelf five, behind the door."}]
    assert finding(check(tmp_path, data), "contradictions") is None


def test_a_report_says_what_a_run_would_train_on_where_files_have_a_split(tmp_path: Path) -> None:
    data = [{**row, "split": "train"} for row in rows(40)]
    data += [{**row, "split": "test", "answer": "Nobody knows."} for row in rows(10)]
    folder = keep(tmp_path, data)
    report, split = check_corpus(folder, TrainConfig()), split_examples(Corpus(folder), TrainConfig())
    assert (report.train, report.held_out) == (len(split.train), len(split.held_out)) == (30, 10)
    found = finding(report, "held out")
    assert found is not None and found.count == 10 and finding(report, "contradictions") is None


def test_thousands_made_from_one_template_are_all_compared_with_one_of_them() -> None:
    words = " ".join(f"word{i}" for i in range(80))
    near = nearest(sketch([f"Write to customer {i} and say {words}" for i in range(3_000)]))
    assert near[0] == -1 and (near[1:] == 0).all()


@pytest.mark.parametrize("max_length", [20, 47, 60, 90])
def test_token_counts_agree_with_training_at_every_limit(base_folder: Path, tmp_path: Path, max_length: int) -> None:
    data = [{**row, "answer": " ".join([row["answer"]] * (1 + i % 4))} for i, row in enumerate(rows(200))]
    texts = read_texts(Corpus(keep(tmp_path, data)), TrainConfig())
    tokenizer = load_tokenizer(str(base_folder))
    counted = count_tokens(tokenizer, texts, TrainConfig(max_length=max_length))
    exact = np.array([len(encode_whole(tokenizer, example)["labels"]) for example in texts.corpus])
    assert ((counted.whole > max_length) == (exact > max_length)).all()


@pytest.mark.parametrize("max_length", [20, 47, 60, 90])
def test_of_pairs_the_longer_side_is_counted_and_what_is_none_is_told(
    base_folder: Path, tmp_path: Path, max_length: int
) -> None:
    data = [
        {"prompt": row["prompt"], "chosen": row["answer"], "rejected": " ".join(["or not"] * (i % 9))}
        for i, row in enumerate(rows(200))
    ]
    folder, train = keep(tmp_path, data), TrainConfig(max_length=max_length, objective="dpo")
    tokenizer, texts = load_tokenizer(str(base_folder)), read_texts(Corpus(folder), train)
    texts.look()
    counted = count_tokens(tokenizer, texts, train)
    exact = np.array([pair_tokens(encode_pair(tokenizer, e)) if e.is_pair else 0 for e in texts.corpus])
    assert ((counted.whole > max_length) == (exact > max_length)).all() and (exact == 0).sum() == 23
    report = check_corpus(folder, train, base=str(base_folder))
    cut, unfit, unpaired = (finding(report, kind) for kind in ("cut", "unfit", "unpaired"))
    assert unpaired is not None and unpaired.count == 23
    assert (cut.count if cut else 0) + (unfit.count if unfit else 0) == (exact > max_length).sum()
    assert finding(check_corpus(folder, TrainConfig()), "unpaired") is None


def test_a_finding_that_was_not_made_is_refused_with_those_that_were(tmp_path: Path) -> None:
    data = rows()
    check(tmp_path, [*data, data[0]])
    with pytest.raises(CorpusError, match="found no 'leaks'; it found: copies"):
        read_finding(tmp_path / "corpus", "leaks")


def test_a_corpus_that_was_not_checked_says_so(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has not been checked yet"):
        read_finding(keep(tmp_path, rows()), "copies")
