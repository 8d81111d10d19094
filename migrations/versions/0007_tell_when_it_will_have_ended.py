"""Tell of what runs when it will have ended, in the table and in `queue_view`."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

QUEUE_VIEW = """
    CREATE VIEW queue_view AS
    SELECT
        'ingest' AS queue,
        submissions.id,
        submissions.state,
        submissions.priority,
        submissions.uri AS video,
        NULL AS question,
        NULL AS stage,
        0.0 AS progress,
        NULL AS eta,
        submissions.attempts,
        submissions.lease_holder,
        submissions.lease_expires_at,
        submissions.not_before,
        submissions.submitted_at,
        submissions.started_at
    FROM submissions
    WHERE submissions.state IN ('queued', 'running')
    UNION ALL
    SELECT
        'analyse',
        analyses.id,
        analyses.state,
        analyses.priority,
        videos.uri,
        analyses.question,
        analyses.stage,
        analyses.progress,
        analyses.eta,
        analyses.attempts,
        analyses.lease_holder,
        analyses.lease_expires_at,
        analyses.not_before,
        analyses.submitted_at,
        analyses.started_at
    FROM analyses
    JOIN videos ON videos.id = analyses.video_id
    WHERE analyses.state IN ('queued', 'running')
"""


def upgrade() -> None:
    op.execute("DROP VIEW queue_view")
    op.add_column("analyses", sa.Column("eta", sa.DateTime(timezone=True)))
    op.execute(QUEUE_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW queue_view")
    op.drop_column("analyses", "eta")
    before = import_module("migrations.versions.0002_let_the_database_own_the_work")
    op.execute(before.QUEUE_VIEW)
