"""What is told of a selection, in the same words on the page and in commands."""

from __future__ import annotations

from hydralora.corpus.narrowing import NO_LANGUAGE
from hydralora.corpus.query import Query
from jobs.store.selections import Selected, Selection

# Several examples of a finding, by its kind, as they follow a count: "128 of the 182 cut answers".
FLAGGED = {
    "cut": "cut answers",
    "pieces": "texts in pieces",
    "unfit": "prompts that do not fit",
    "held out": "rows whose prompt is held out",
    "leaks": "leaks",
    "contradictions": "contradictions",
    "copies": "copies",
    "near copies": "near copies",
    "blank": "blank answers",
    "short": "short answers",
    "marks": "rows with marks of a template",
    "outliers": "outliers",
    "languages": "rows in a rare language",
}

# What people call a language, by its code; others are shown by the code alone.
LANGUAGES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "ca": "Catalan",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sr": "Serbian",
    "sv": "Swedish",
    "ta": "Tamil",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "zh": "Chinese",
    "zxx": "no language",
    NO_LANGUAGE: "not told",
}
NO_LANGUAGES = "Check this corpus, and the language of every row is told."


def language_title(code: str, count: int) -> str:
    """A language with the number of its rows."""
    name = f"{LANGUAGES[code]} ({code})" if code in LANGUAGES and code != NO_LANGUAGE else LANGUAGES.get(code, code)
    return f"{name}: {count:,} {'row' if count == 1 else 'rows'}"


def flagged(kind: str) -> str:
    """Several examples of a finding, in words."""
    return FLAGGED.get(kind, kind)


def count_sentence(found: Selected, query: Query) -> str:
    """How many are selected; true counts, however many are shown."""
    if query.is_empty:
        return f"All {found.of:,} rows"
    rows = "1 row" if len(found.positions) == 1 else f"{len(found.positions):,} rows"
    return f"{rows} of {found.of:,} selected"


def flags_sentence(found: Selected) -> str:
    """How many of each finding are among the selected, and how many of these are left out already."""
    told = [f"{inside:,} of the {all_:,} {flagged(kind)}" for kind, (inside, all_) in found.flags.items() if inside]
    if found.left_out:
        told.append(f"{found.left_out:,} left out already")
    return ", ".join(told)


def saved_title(selection: Selection) -> str:
    """A named selection with its size."""
    return f"{selection.name} ({selection.count:,} {'row' if selection.count == 1 else 'rows'})"
