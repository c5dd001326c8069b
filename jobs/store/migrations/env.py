"""Alembic's entry: run the migrations on the URL that ``jobs.store.database.migrate`` gives, all or none of them.

What is there is copied aside first, under the same lock: nobody can have changed it in between. That is for a file;
a database on PostgreSQL is not copied, since only its own tools can.
"""

import logging
from pathlib import Path

from alembic import context
from sqlalchemy import Connection

from jobs.database_file import copy_aside
from jobs.store.database import open_engine, writing
from jobs.store.tables import Base


def save_before(connection: Connection) -> None:
    """Copy a database that is about to be changed; a new one has nothing to save."""
    present, wanted = context.get_context().get_current_heads(), context.get_head_revision()
    file = connection.engine.url.database
    if not present or present == (wanted,):
        return
    if not is_sqlite:
        log.warning("The database is brought from schema %s to %s. It is not copied: pg_dump does.", present[0], wanted)
    elif file and file != ":memory:":
        copy_aside(Path(file), str(wanted))


log = logging.getLogger("jobs.store.migrations")
engine = open_engine(context.config.attributes["url"])
is_sqlite = engine.dialect.name == "sqlite"
with writing(engine).connect() as connection:
    if is_sqlite:
        # A changed table is made anew and the old one dropped, which would take along every row that points to it.
        # The setting does nothing inside a transaction, so it goes past SQLAlchemy, which would begin one.
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        transactional_ddl=True,  # SQLite can, now that we begin and end its transactions ourselves
    )
    with context.begin_transaction():
        save_before(connection)
        context.run_migrations()
engine.dispose()
