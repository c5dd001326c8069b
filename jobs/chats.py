"""Conversations and their messages."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session, defer

from hydralora.errors import UserError
from jobs.database import writing
from jobs.records import Conversation, Message
from jobs.tables import Conversations, Messages

TITLE_LIMIT = 60
SILENT_AFTER_SECONDS = 90.0  # an answer nobody writes any more counts as broken off


class Chats:
    """All reads and writes of conversations. An answer is stored while it is being written."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.write_engine = engine, writing(engine)

    def create(self, title: str = "New conversation", system: str = "") -> Conversation:
        """A new, empty conversation."""
        with Session(self.write_engine) as session, session.begin():
            row = Conversations(title=title[:TITLE_LIMIT] or "New conversation", system=system)
            session.add(row)
            session.flush()
            return Conversation.of(row)

    def conversations(self) -> list[Conversation]:
        """All conversations, newest first."""
        with Session(self.engine) as session:
            rows = session.scalars(select(Conversations).order_by(Conversations.id.desc()).limit(200))
            return [Conversation.of(row) for row in rows]

    def get(self, conversation_id: int) -> Conversation:
        """One conversation; UserError when it does not exist."""
        with Session(self.engine) as session:
            return Conversation.of(self._row(session, conversation_id))

    @staticmethod
    def _row(session: Session, conversation_id: int) -> Conversations:
        row = session.get(Conversations, conversation_id)
        if row is None:
            raise UserError(f"Conversation {conversation_id} does not exist. It may have been deleted.")
        return row

    def change(self, conversation_id: int, *, title: str | None = None, system: str | None = None) -> None:
        """Rename a conversation, or give it another system text."""
        with Session(self.write_engine) as session, session.begin():
            row = self._row(session, conversation_id)
            row.title = row.title if title is None else (title.strip()[:TITLE_LIMIT] or row.title)
            row.system = row.system if system is None else system

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation with its messages."""
        with Session(self.write_engine) as session, session.begin():
            row = self._row(session, conversation_id)
            session.execute(delete(Messages).where(Messages.conversation_id == conversation_id))
            session.delete(row)

    def ask(self, conversation_id: int, text: str) -> Message:
        """Add a question; the first one names the conversation."""
        with Session(self.write_engine) as session, session.begin():
            conversation = self._row(session, conversation_id)
            if conversation.title == "New conversation":
                conversation.title = " ".join(text.split())[:TITLE_LIMIT]
            row = Messages(conversation_id=conversation_id, role="user", text=text)
            session.add(row)
            session.flush()
            return Message.of(row)

    def begin_answer(self, question: Message, run_id: int | None, settings: dict[str, Any]) -> Message:
        """Add an empty answer that is being written."""
        with Session(self.write_engine) as session, session.begin():
            row = Messages(conversation_id=question.conversation_id, role="assistant", reply_to=question.id,
                           run_id=run_id, settings=settings, state="writing")  # fmt: skip
            session.add(row)
            session.flush()
            return Message.of(row)

    def write_answer(self, message_id: int, **values: Any) -> None:
        """Store what is there of an answer."""
        statement = update(Messages).where(Messages.id == message_id).values(updated_at=time.time(), **values)
        with self.write_engine.begin() as connection:
            connection.execute(statement)

    def message(self, message_id: int) -> Message:
        """One message with its tokens; UserError when it does not exist."""
        with Session(self.engine) as session:
            row = session.get(Messages, message_id)
            if row is None:
                raise UserError(f"Message {message_id} does not exist. It may have been deleted.")
            return self._honest(Message.of(row))

    def messages(self, conversation_id: int, *, tokens: bool = True) -> list[Message]:
        """Messages of a conversation in order."""
        query = select(Messages).where(Messages.conversation_id == conversation_id).order_by(Messages.id)
        with Session(self.engine) as session:
            self._row(session, conversation_id)
            if not tokens:
                query = query.options(defer(Messages.tokens))
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
        with Session(self.write_engine) as session, session.begin():
            row = session.get(Messages, message_id)
            if row is None or row.role != "user":
                raise UserError(f"Message {message_id} is not a question, so it cannot be edited.")
            found = Message.of(row)
            session.execute(
                delete(Messages).where(Messages.conversation_id == row.conversation_id, Messages.id >= message_id)
            )
            return found
