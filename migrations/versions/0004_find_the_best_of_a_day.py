"""Find the best moments of a day without looking at all that happened on it.

The days are UTC's: no other is the same for everybody, as an index must be.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

DAY = {"postgresql": "((starts_at AT TIME ZONE 'UTC')::date)", "sqlite": "date(starts_at)"}
BEST_FIRST = {"postgresql": "verifier_score DESC NULLS LAST", "sqlite": "verifier_score DESC"}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.execute(f"CREATE INDEX ix_moments_day ON moments ({DAY[dialect]}, {BEST_FIRST[dialect]})")


def downgrade() -> None:
    op.execute("DROP INDEX ix_moments_day")
