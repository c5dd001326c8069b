"""Which encoding a text is in: by its mark, by its zeros, by being valid UTF-8, else a guess that is said to be one."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass

from charset_normalizer import from_bytes

from hydralora.errors import CorpusError

# The encodings of common practice; of several that read the same bytes equally well the earlier one is taken.
SINGLE_BYTE = (
    "cp1252 cp1250 cp1251 koi8-r cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 iso8859-15 iso8859-1 iso8859-2 iso8859-5 "
    "iso8859-7 iso8859-9 iso8859-8 iso8859-6 iso8859-13 iso8859-3 iso8859-4 iso8859-10 iso8859-14 iso8859-16 koi8-u "
    "mac-roman cp850 cp437 cp852 cp866 mac-cyrillic mac-latin2 mac-greek mac-turkish cp855 cp737 cp857 cp858 cp775 "
    "cp862 cp864"
).split()
THAI, THAI_LOSS = ("cp874", "tis-620"), 0.1  # in which nearly all bytes are usual letters, so they come last
SEVERAL_BYTES = ("gb18030", "gbk", "big5", "cp950", "cp932", "shift_jis", "euc_jp", "cp949", "euc_kr", "iso2022_jp")
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
ENCODINGS = (*UNICODE, *SEVERAL_BYTES, *SINGLE_BYTE, *THAI)
RANKS = {name: rank for rank, name in enumerate((*SINGLE_BYTE, *SEVERAL_BYTES, *THAI))}
OFTEN = (*SINGLE_BYTE[:20], *SEVERAL_BYTES[:5])  # tried even where the library sees no reason to
UNSEEN = 0.05  # what an encoding gains where the library takes it for possible
DECLARED = re.compile(
    rb"<(?:meta\b[^>]{0,200}?\bcharset|\?xml\b[^>]{0,200}?\bencoding)\s*=[\s\"']*([A-Za-z0-9_:.-]{1,40})",
    re.IGNORECASE,
)
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LEAST_USUAL = 0.6  # share of usual letters below which a guess is none
LEAST_BYTES = 6  # beyond ASCII that a guess needs; with fewer only the most usual encodings are thought of
# Letters beyond ASCII that a language uses every day; a wrong encoding turns them into others.
LETTERS = (
    "äöüßÄÖÜ",
    "éèêëàâçîïôùûüœæÉÈÊÀÂÇÎÔŒ",
    "áéíóúüñ¿¡ÁÉÍÓÚÑ",
    "áàâãçéêíóôõúüÁÀÂÃÇÉÊÍÓÔÕÚ",
    "àèéìíòóùúÀÈÉÌÒÙ",
    "åäöæøéÅÄÖÆØÉ",
    "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ",
    "áčďéěíňóřšťúůýžÁČĎÉĚÍŇÓŘŠŤÚŮÝŽäĺľôŕĽ",
    "áéíóöőúüűÁÉÍÓÖŐÚÜŰ",
    "ăâîșțşţĂÂÎȘȚŞŢ",
    "čćđšžČĆĐŠŽ",
    "çğıöşüâîûÇĞİÖŞÜ",
    "ąčęėįšųūžĄČĘĖĮŠŲŪŽāčēģīķļņšūžĀČĒĢĪĶĻŅäöõüÄÖÕÜ",
    "áéíóúýþæöðÁÉÍÓÚÝÞÆÖÐ",
    "".join(map(chr, range(0x0410, 0x0450))) + "ёЁіїєґІЇЄҐўЎђљњћџјЂЉЊЋЏЈ",
    "".join(map(chr, range(0x0391, 0x03CF))) + "άέήίΰϊϋόύώΆΈΉΊΌΎΏ",
    "".join(map(chr, range(0x05D0, 0x05EB))) + "".join(map(chr, range(0x05B0, 0x05C3))),
    "".join(map(chr, range(0x0621, 0x0653))) + "،؛؟پچژگ",
    "".join(map(chr, range(0x0E01, 0x0E5C))),
    "ăâđêôơưĂÂĐÊÔƠƯàảãáạèẻẽéẹìỉĩíịòỏõóọùủũúụ" + "\u0300\u0301\u0303\u0309\u0323",
)
CYRILLIC = 14  # of them
VOWELS, LEAST_VOWELS = (
    frozenset("аеёиоуыэюяіїєў"),
    0.33,
)  # of all letters of a Cyrillic text; Hebrew has other letters there
SYLLABLES, LEAST_SYLLABLES = (
    "이다에는을의가고하지로사기은를도리어자서한인아나시일있습니까요",
    0.1,
)  # in every Korean text
CHINESE, MOST_KANA = ("gb18030", "gbk", "big5", "cp950"), 0.1  # kana have places there too, but no Chinese text has any
ALPHABETS = tuple(frozenset(letters) for letters in LETTERS)
WESTERN, CENTRAL = frozenset().union(*ALPHABETS[:6]), frozenset().union(*ALPHABETS[6:11])  # of several languages
SIGNS = frozenset("„“”‘’‚–—…€£§°«»·•©®™²³½¼¾×±¿¡\u00a0№")
ODD = re.compile("[A-Za-z][\u0370-\u0fff]|[\u0370-\u0fff][A-Za-z]|[^\\W\\d_][£€§°«»©®²³¹½¼¾×±¿¡÷¤¥¢¦¨¬¯¸¶][^\\W\\d_]")
BEHIND_SMALL = re.compile(r"(?<=[a-z])([^\x00-\x7f])")
# What UTF-8 looks like where it was once taken for cp1252: a letter of its first byte, then one of those after it.
_AFTER = "\u0080-\u00bfŒœŠšŸŽžƒˆ˜–—‘’‚“”„†‡•…‰‹›€™"
MOJIBAKE = re.compile(f"[ÂÃ][{_AFTER}]|â€[{_AFTER}]|(?:[ÐÑ][{_AFTER}]){{2,}}|(?:[ãäåæçèé][{_AFTER}]{{2}}){{2,}}")
SIGNALS = ("Ã", "Â", "â€", "Ð", "Ñ", "¸", "çš„", "ã€", "\u0081")  # one of them is in every such text; quick to find


@dataclass(frozen=True)
class Guess:
    """An encoding, why it is thought to be this one, and whether there is no doubt."""

    encoding: str
    reason: str
    is_sure: bool = True


def evident_encoding(sample: bytes, name: str) -> Guess | None:
    """The encoding that the first bytes give away, by a mark, by zeros or by escapes; None where they do not.

    Raises:
        CorpusError: When zeros stand where no text has them.
    """
    for mark, encoding in MARKS:
        if sample.startswith(mark):
            return Guess(encoding, "its first bytes are the mark of this encoding")
    if b"\x00" in sample:
        return Guess(_wide_encoding(sample, name), "zeros stand where this encoding has them")
    if re.search(rb"\x1b\$[@B]", sample) and sample.isascii():
        return Guess("iso2022_jp", "it switches to Japanese letters by escapes")
    return None


def _wide_encoding(sample: bytes, name: str) -> str:
    """UTF-16 or UTF-32 without a mark, known by its zeros; zeros in other places are no text."""
    zeros = [sample[place::4].count(0) / max(1, len(sample) // 4) for place in range(4)]
    if min(zeros[2:]) > 0.9 and zeros[0] < 0.1:
        return "utf-32-le"
    if min(zeros[:2]) > 0.9 and zeros[3] < 0.1:
        return "utf-32-be"
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    is_latin = max(even, odd) >= 0.3 * 2 and min(even, odd) <= 0.05 * 2
    # Letters of other scripts have no zeros, but the ends of lines do.
    text = sample[: len(sample) // 2 * 2].decode(encoding, "replace") if min(even, odd) == 0 else ""
    if not is_latin and (not text or usual_share(text) < LEAST_USUAL):
        raise CorpusError(f"{name} looks like a binary file, not text. Save it as text first.")
    return encoding


def known_encoding(name: str) -> str:
    """An encoding of ``ENCODINGS`` by any of its names; empty where it is none of them."""
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return ""
    return next((known for known in ENCODINGS if codecs.lookup(known).name == found), "")


def declared_encoding(sample: bytes) -> Guess | None:
    """The encoding that the head of a page or of XML declares; None where there is none, or an unknown one."""
    found = DECLARED.search(sample)
    name = known_encoding(found[1].decode("ascii")) if found else ""
    if name == "iso8859-1":
        name = "cp1252"  # as browsers take it
    return Guess(name, "the page declares it") if name else None


def guessed_encodings(sample: bytes) -> list[Guess]:
    """The encodings that ``sample`` can be in, the likeliest first; only those that give usual letters.

    Args:
        sample: Lines with bytes beyond ASCII, which is not UTF-8.
    """
    found = {name: (0.0, "Unknown") for name in OFTEN}
    known = {codecs.lookup(name).name: name for name in RANKS}
    for match in from_bytes(sample, cp_isolation=list(RANKS)):
        for encoding in match.could_be_from_charset:
            name = known.get(codecs.lookup(encoding).name)
            if name:
                gain = -THAI_LOSS if name in THAI else UNSEEN - match.chaos + 0.1 * match.coherence
                found[name] = (gain, match.language)
    texts = {name: _decoded(sample, name) for name in found}
    shares = {name: usual_share(text) for name, text in texts.items() if text and not _is_japanese(name, text)}
    kept = [name for name, share in shares.items() if share >= LEAST_USUAL]
    if sum(byte > 0x7F for byte in sample) < LEAST_BYTES:
        kept = [name for name in kept if name in ("cp1252", "cp1250")]
    kept.sort(key=lambda name: (-round(shares[name] + found[name][0], 2), RANKS[name]))
    return [Guess(name, _reason(found[name][1]), is_sure=False) for name in kept]


def _decoded(sample: bytes, encoding: str) -> str | None:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return None


def _reason(language: str) -> str:
    said = "" if language == "Unknown" else f", which looks like {language}"
    return f"it is not UTF-8, and these bytes give usual letters so{said}; that is a guess"


def usual_share(text: str) -> float:
    """The share of the letters beyond ASCII that some one language uses every day, at most 1.

    Letters of two scripts in one word, signs inside of words, and capitals behind small letters speak against it. What
    is garbled as usual (``mojibake``) counts as read rightly: the fault is older.
    """
    letters = Counter(letter for letter in text if letter > "\x7f")
    signs = sum(count for letter, count in letters.items() if letter in SIGNS)
    total = letters.total() - signs
    places = mojibake(text)
    rest = MOJIBAKE.sub("", text) if places else text
    odd = len(ODD.findall(rest)) + sum(found[1].isupper() for found in BEHIND_SMALL.finditer(rest))
    if not total:
        return 0.9 if not odd else 0.0

    def share(alphabet: frozenset[str]) -> float:
        return sum(count for letter, count in letters.items() if letter in alphabet) / total

    hangul = sum(count for letter, count in letters.items() if "\uac00" <= letter < "\ud7a4")
    if hangul > 0.5 * total and sum(letters[letter] for letter in SYLLABLES) < LEAST_SYLLABLES * hangul:
        odd += hangul // 8
    cyrillic = sum(count for letter, count in letters.items() if letter in ALPHABETS[CYRILLIC])
    vowels = sum(count for letter, count in letters.items() if letter.lower() in VOWELS)
    if cyrillic > 0.5 * total and vowels < LEAST_VOWELS * cyrillic:
        odd += cyrillic // 8
    if sum(count for letter, count in letters.items() if letter.isupper()) > 0.7 * total:
        odd += total // 16  # nobody writes in capitals throughout
    asian = sum(count for letter, count in letters.items() if _is_usual_asian(letter)) / total
    garbled = sum(map(len, places)) / letters.total()
    best = max(asian, garbled, 0.9 * share(WESTERN), 0.9 * share(CENTRAL), *map(share, ALPHABETS))
    return best - 2 * odd / total


def _is_japanese(encoding: str, text: str) -> bool:
    """Whether a text in a Chinese encoding is full of kana, and so in another one."""
    letters = sum(letter > "\x7f" for letter in text)
    return encoding in CHINESE and sum("\u3040" <= letter < "\u3100" for letter in text) > MOST_KANA * letters


def _is_usual_asian(letter: str) -> bool:
    """Kana, Hangul, full-width signs, and the first level (the everyday one) of the national character sets."""
    code = ord(letter)
    if 0x3000 <= code < 0x3100 or 0xFF00 <= code < 0xFF5F:
        return True
    if 0xAC00 <= code < 0xD7A4:  # of 11,172 syllables the 2,350 in use
        return bool(letter.encode("euc_kr", "ignore"))
    if not 0x4E00 <= code < 0xA000:
        return False
    levels = (("gb2312", 0xB0, 0xD7), ("big5", 0xA4, 0xC6), ("shift_jis", 0x88, 0x98))
    return any(low <= (letter.encode(name, "ignore") or b"\0")[0] <= high for name, low, high in levels)


def mojibake(text: str) -> list[str]:
    """Places where UTF-8 was once read as cp1252 and saved so: ``Ã¤`` in the place of ``ä``."""
    if text.isascii() or not any(signal in text for signal in SIGNALS):
        return []
    lines = (line for line in text.split("\n") if not line.isascii() and any(signal in line for signal in SIGNALS))
    return [found for line in lines for found in MOJIBAKE.findall(line) if mended(found)]


def mended(garbled: str) -> str:
    """What stood there before it was garbled; empty where that cannot be told."""
    raw = b"".join(letter.encode("cp1252" if ord(letter) > 0xFF else "latin-1", "ignore") for letter in garbled)
    return raw.decode("utf-8", "ignore")
