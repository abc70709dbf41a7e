"""Alembic runs this file to apply the migrations, on the connection that it is handed."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # The caller's transaction holds the write lock and ends after the last step.
    transactional_ddl=False,
)
context.run_migrations()
