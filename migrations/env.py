"""Runs the migrations on the connection that `worker.schema` hands over."""

from alembic import context

from worker.tables import Base

connection = context.config.attributes["connection"]
# One transaction from first to last: an upgrade that is cut off leaves the database as it was, and a
# second process that upgrades at the same time waits and finds it done. SQLite can do it as well.
with connection.begin():
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    context.run_migrations()
