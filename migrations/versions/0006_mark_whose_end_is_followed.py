"""Tell analyses whose end nobody has to do with from those that a run or a standing question waits for."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("analyses", sa.Column("followed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute(
        "UPDATE analyses SET followed = true WHERE state <> 'succeeded' AND ("
        "id IN (SELECT new_analysis_id FROM reindex_items WHERE state = 'asked') "
        "OR id IN (SELECT analysis_id FROM standing_analyses))"
    )


def downgrade() -> None:
    op.drop_column("analyses", "followed")
