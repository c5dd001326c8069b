"""Alembic's entry: run the migrations on the URL that ``jobs.database.migrate`` gives."""

from alembic import context

from jobs.database import open_engine, writing
from jobs.tables import Base

engine = open_engine(context.config.attributes["url"])
with writing(engine).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
