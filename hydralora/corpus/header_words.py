"""What the headers of tables are called: names that whole datasets share, and words of many languages inside names."""

from __future__ import annotations

import re
import unicodedata

# Whole names, in order of preference, in lower case with spaces for underscores.
MESSAGES = (
    "messages",
    "chosen messages",
    "conversations",
    "conversation",
    "dialogue",
    "dialog",
    "turns",
    "contents",
)
PROMPTS = ("instruction", "prompt", "question", "query", "problem", "inputs", "user", "source")
EXTRAS = ("input", "context", "contexts", "passage", "options")
ANSWERS = (
    "output",
    "response",
    "answer",
    "completion",
    "target",
    "targets",
    "chosen",
    "reply",
    "long answer",
    "canonical solution",
    "solution",
    "code",
    "summary",
    "assistant",
    "answers",
)
TEXTS = ("text", "content", "document", "story", "body", "message", "sentence", "v2", "sms")
LABELS = ("label", "task", "kind", "category", "topic", "template", "subject", "class", "type", "top", "domain", "v1")
SPLITS = ("split", "partition", "subset")
SYSTEMS = ("system", "system prompt", "systeminstruction", "system instruction")
HISTORIES = ("history",)
IDS = ("id", "uid", "uuid", "guid", "qid", "example id", "question id", "prompt id", "task id", "item id")
TOOLS = ("tools", "functions", "available tools")
REJECTED = ("rejected", "rejected messages", "rejected response", "response rejected", "worst answer", "loser")
# Marks of good or bad answers; `True` where the mark says that an answer is good.
MARKS = {
    "desirable": True,
    "is desirable": True,
    "kto tag": True,
    "is good": True,
    "good": True,
    "accepted": True,
    "is accepted": True,
    "thumbs up": True,
    "weight": True,
    "undesirable": False,
    "bad": False,
    "is bad": False,
    "thumbs down": False,
}
CHOICES = ("choices", "options", "endings", "candidates", "choice")
CHOICE_ANSWERS = ("answer", "label", "correct", "correct answer", "gold", "target", "answerkey", "answer key", "cop")

# Words inside names: German, French, Spanish, Portuguese, Italian, Dutch, Polish, Czech, Russian, Ukrainian, Turkish,
# Chinese, Japanese, Korean, Arabic, Hindi, Vietnamese, Indonesian, Greek, Hebrew and the languages of the North.
PROMPT_WORDS = (
    "question query prompt instruction request inquiry enquiry frage anfrage aufgabe eingabe demande consigne énoncé "
    "pregunta consulta instrucción solicitud pergunta questão pedido domanda richiesta vraag pytanie zapytanie otázka "
    "вопрос запрос задание питання soru 问题 問題 提问 提問 指令 质询 咨询 質問 질문 سؤال प्रश्न hỏi pertanyaan ερώτηση "
    "שאלה fråga spørgsmål spørsmål kysymys kérdés întrebare"
).split()
ANSWER_WORDS = (
    "answer reply response completion solution antwort lösung ausgabe réponse reponse respuesta contestación solución "
    "resposta risposta soluzione antwoord odpowiedź odpowiedz odpověď ответ решение відповідь cevap yanıt 答案 回答 "
    "答复 答覆 回复 回覆 解答 응답 답변 대답 إجابة جواب उत्तर lời jawaban απάντηση תשובה svar vastaus válasz răspuns"
).split()
LABEL_WORDS = (
    "label category topic class team department queue intent tag kategorie thema abteilung klasse catégorie categorie "
    "thème étiquette équipe service categoría tema etiqueta equipo departamento categoria reparto afdeling kategoria "
    "kategorie категория тема отдел команда категорія 类别 類別 分类 分類 标签 標籤 主题 部门 團隊 团队 カテゴリ "
    "ラベル 部署 카테고리 분류 부서 تصنيف فئة श्रेणी kategori konu bölüm κατηγορία"
).split()
TEXT_WORDS = (
    "text texte texto testo tekst текст 文本 内容 正文 テキスト 本文 텍스트 내용 نص पाठ metin văn teks κείμενο story "
    "erzählung récit historia racconto рассказ"
).split()
SHORTEST_PART = 5  # letters of a word that may stand inside another, as in `Kundenfrage`


def plain_name(column: str) -> str:
    """A name as the lists above write it."""
    return " ".join(re.sub(r"[_\-.]+", " ", column).lower().split())


def says(column: str, words: list[str]) -> str:
    """The word of the list that the name of a column says, or nothing."""
    name = unicodedata.normalize("NFKC", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)).casefold().replace("_", " ")
    parts = re.findall(r"[^\W\d]+", name)
    for word in words:
        inside = len(word) >= SHORTEST_PART or not _has_spaces(word)
        if any(word == part or (inside and word in part) for part in parts):
            return word
    return ""


def _has_spaces(word: str) -> bool:
    """Whether the script of a word writes spaces between words."""
    return not any("\u3040" <= letter <= "\u9fff" or "\uac00" <= letter <= "\ud7a3" for letter in word)
