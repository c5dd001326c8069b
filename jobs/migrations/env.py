"""Alembic's entry: run the migrations on the URL that ``jobs.database.migrate`` gives."""

from alembic import context

from jobs.database import open_engine, writing
from jobs.tables import Base

engine = open_engine(context.config.attributes["url"])
with writing(engine).connect() as connection:
    if engine.dialect.name == "sqlite":
        # A changed table is made anew and the old one dropped, which would take along every row that points to it.
        # The setting does nothing inside a transaction, so it goes past SQLAlchemy, which would begin one.
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
