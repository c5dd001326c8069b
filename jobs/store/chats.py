"""Conversations and their messages."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, defer

from hydralora.errors import UserError
from hydralora.plain import UNSHOWN, shown
from jobs.store.changes import tell
from jobs.store.records import Conversation, Message
from jobs.store.rows import Rows, row_of
from jobs.store.tables import ConversationRow, MessageRow, find_row

TITLE_LIMIT = 60
NEW = "New conversation"
SILENT_AFTER_SECONDS = 90.0  # an answer nobody writes any more counts as broken off


def _title(text: str) -> str:
    """One line without control characters, empty where nothing is left."""
    return " ".join(UNSHOWN.sub(" ", text).split())[:TITLE_LIMIT].strip()


class Chats:
    """All reads and writes of conversations. An answer is stored while it is being written."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def create(self, title: str = NEW, system: str = "") -> Conversation:
        """A new, empty conversation."""
        with self._rows.writing() as session:
            row = ConversationRow(title=_title(title) or NEW, system=system)
            session.add(row)
            session.flush()
            return Conversation.of(row)

    def all(self) -> list[Conversation]:
        """All conversations, newest first."""
        with self._rows.reading() as session:
            rows = session.scalars(select(ConversationRow).order_by(ConversationRow.id.desc()).limit(200))
            return [Conversation.of(row) for row in rows]

    def get(self, conversation_id: int) -> Conversation:
        """One conversation; UserError when it does not exist."""
        with self._rows.reading() as session:
            return Conversation.of(self._row(session, conversation_id))

    @staticmethod
    def _row(session: Session, conversation_id: int) -> ConversationRow:
        row: ConversationRow = row_of(session, ConversationRow, conversation_id, "Conversation")
        return row

    def change(self, conversation_id: int, *, title: str | None = None, system: str | None = None) -> None:
        """Rename a conversation, or give it another system text."""
        with self._rows.writing() as session:
            row = self._row(session, conversation_id)
            row.title = row.title if title is None else (_title(title) or row.title)
            row.system = row.system if system is None else system

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation with its messages."""
        with self._rows.writing() as session:
            row = self._row(session, conversation_id)
            session.execute(delete(MessageRow).where(MessageRow.conversation_id == conversation_id))
            session.delete(row)

    def ask(self, conversation_id: int, text: str) -> Message:
        """Add a question; the first one names the conversation."""
        with self._rows.writing() as session:
            conversation = self._row(session, conversation_id)
            if conversation.title == NEW:
                conversation.title = _title(text) or NEW
            row = MessageRow(conversation_id=conversation_id, role="user", text=text)
            session.add(row)
            session.flush()
            return Message.of(row)

    def begin_answer(self, question: Message, run_id: int | None, settings: dict[str, Any]) -> Message:
        """Add an empty answer that is being written."""
        with self._rows.writing() as session:
            row = MessageRow(
                conversation_id=question.conversation_id,
                role="assistant",
                reply_to=question.id,
                run_id=run_id,
                settings=settings,
                state="writing",
            )
            session.add(row)
            session.flush()
            return Message.of(row)

    def write_answer(self, message_id: int, **values: Any) -> None:
        """Store what is there of an answer."""
        statement = update(MessageRow).where(MessageRow.id == message_id).values(updated_at=time.time(), **values)
        with self._rows.writing() as session:
            written = session.connection().execute(statement.returning(MessageRow.conversation_id)).scalar()
            if written is not None:
                tell(session, f"chat-{written}")

    def message(self, message_id: int) -> Message:
        """One message with its tokens; UserError when it does not exist."""
        with self._rows.reading() as session:
            return self._honest(Message.of(row_of(session, MessageRow, message_id, "Message")))

    def messages(self, conversation_id: int, *, tokens: bool = True) -> list[Message]:
        """Messages of a conversation in order."""
        query = select(MessageRow).where(MessageRow.conversation_id == conversation_id).order_by(MessageRow.id)
        with self._rows.reading() as session:
            self._row(session, conversation_id)
            if not tokens:
                query = query.options(defer(MessageRow.tokens))
                return [self._honest(Message.of(row, tokens=None)) for row in session.scalars(query)]
            return [self._honest(Message.of(row)) for row in session.scalars(query)]

    @staticmethod
    def _honest(message: Message) -> Message:
        """An answer that nobody has written to for long was broken off; say so."""
        if message.state == "writing" and time.time() - message.updated_at > SILENT_AFTER_SECONDS:
            values = {**vars(message), "state": "failed", "error": "The answer was broken off. Ask again."}
            return Message(**values)
        return message

    def cut_from(self, message_id: int) -> Message:
        """Delete a question and everything after it (to edit and send it again); gives it back."""
        with self._rows.writing() as session:
            row = find_row(session, MessageRow, message_id)
            if row is None or row.role != "user":
                raise UserError(f"Message {shown(message_id)} is not a question, so it cannot be edited.")
            found = Message.of(row)
            tell(session, f"chat-{row.conversation_id}")
            session.execute(
                delete(MessageRow).where(MessageRow.conversation_id == row.conversation_id, MessageRow.id >= message_id)
            )
            return found
