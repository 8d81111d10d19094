"""Create videos, analyses and what analyses found."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _create_videos()
    _create_analyses()
    op.create_table(
        "candidates",
        *_scored_columns(),
        sa.Column("position", sa.Integer, nullable=False),
        sa.UniqueConstraint("analysis_id", "position", name="uq_candidates_analysis_id_position"),
        *_below_analysis("candidates"),
        sa.PrimaryKeyConstraint("id", name="pk_candidates"),
    )
    op.create_table(
        "moments",
        *_scored_columns(),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.UniqueConstraint("analysis_id", "rank", name="uq_moments_analysis_id_rank"),
        *_below_analysis("moments"),
        sa.PrimaryKeyConstraint("id", name="pk_moments"),
    )
    op.create_table(
        "answers",
        sa.Column("analysis_id", ROW_ID, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("option", sa.Text),
        sa.Column("start_seconds", sa.Double, nullable=False),
        sa.Column("end_seconds", sa.Double, nullable=False),
        *_below_analysis("answers"),
        sa.PrimaryKeyConstraint("analysis_id", name="pk_answers"),
    )
    op.execute(MOMENT_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW moment_view")
    for table in ("answers", "moments", "candidates", "analyses", "videos"):
        op.drop_table(table)


def _create_videos() -> None:
    op.create_table(
        "videos",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("duration", sa.Double),
        sa.Column("frame_rate", sa.Double),
        sa.Column("frame_count", sa.BigInteger),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("codec", sa.Text),
        sa.Column("rotation", sa.Integer),
        sa.Column("start_time", sa.Double),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.CheckConstraint("state IN ('known', 'readable', 'unreadable')", name=op.f("ck_videos_state")),
        sa.PrimaryKeyConstraint("id", name="pk_videos"),
        sa.UniqueConstraint("sha256", name="uq_videos_sha256"),
    )


def _create_analyses() -> None:
    op.create_table(
        "analyses",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("video_id", ROW_ID, nullable=False),
        sa.Column("idempotency_key", sa.String(64), nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("plan", sa.JSON),
        sa.Column("plan_fallback", sa.Boolean),
        sa.Column("query", sa.Text),
        sa.Column("warnings", sa.JSON),
        sa.Column("seconds", sa.JSON),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("submitted_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed')", name=op.f("ck_analyses_state")
        ),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name="fk_analyses_video_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_analyses"),
        sa.UniqueConstraint("idempotency_key", name="uq_analyses_idempotency_key"),
    )
    op.create_index("ix_analyses_video_id", "analyses", ["video_id"])
    op.create_index("ix_analyses_state_submitted_at", "analyses", ["state", "submitted_at"])


def _scored_columns() -> list[sa.Column]:
    return [
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("analysis_id", ROW_ID, nullable=False),
        sa.Column("start_seconds", sa.Double, nullable=False),
        sa.Column("end_seconds", sa.Double, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("p_yes", sa.Double),
        sa.Column("p_no", sa.Double),
        sa.Column("verifier_score", sa.Double),
        sa.Column("fallback", sa.Boolean, nullable=False),
    ]


def _below_analysis(table: str) -> list[sa.Constraint]:
    return [
        sa.CheckConstraint(
            "0 <= start_seconds AND start_seconds <= end_seconds", name=op.f(f"ck_{table}_span")
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name=f"fk_{table}_analysis_id", ondelete="CASCADE"
        ),
    ]


# SQLite checks every view when it alters a table, so a later migration drops this one first.
MOMENT_VIEW = """
    CREATE VIEW moment_view AS
    SELECT
        moments.id AS moment_id,
        analyses.id AS analysis_id,
        videos.uri AS video,
        analyses.question,
        moments.query,
        moments.rank,
        moments.start_seconds,
        moments.end_seconds,
        moments.confidence,
        moments.p_yes,
        moments.p_no,
        moments.verifier_score,
        moments.fallback,
        answers.text AS answer,
        answers.option AS answer_option,
        analyses.fingerprint,
        analyses.finished_at
    FROM moments
    JOIN analyses ON analyses.id = moments.analysis_id
    JOIN videos ON videos.id = analyses.video_id
    LEFT JOIN answers ON answers.analysis_id = analyses.id
"""
