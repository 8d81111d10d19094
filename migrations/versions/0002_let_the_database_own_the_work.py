"""Submissions, leases, coverage, sources, instants and full-text search: the database owns the work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0002"
down_revision = "0001"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
STATES = "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')"
OLD_STATES = "state IN ('queued', 'running', 'succeeded', 'failed')"
VIDEO_STATES = "state IN ('known', 'readable', 'unreadable', 'quarantined')"
OLD_VIDEO_STATES = "state IN ('known', 'readable', 'unreadable')"
ORIGINS = "recorded_at_origin IN ('argument', 'filename', 'container')"
VERDICTS = "verdict IN ('found', 'nothing_found', 'failed', 'not_searched')"
SPAN = "0 <= start_seconds AND start_seconds <= end_seconds"
SPANNED = ("candidates", "moments", "answers")
VIEWS = ("moment_view", "answer_view", "coverage_gap_view", "queue_view")

VIDEO_COLUMNS: tuple[Callable[[], sa.Column], ...] = (
    lambda: sa.Column("source_id", ROW_ID),
    lambda: sa.Column("recorded_at", INSTANT),
    lambda: sa.Column("recorded_at_origin", sa.String(16)),
    lambda: sa.Column("crashes", sa.Integer),
    lambda: sa.Column("size_bytes", sa.BigInteger),
    lambda: sa.Column("added_at", INSTANT),
)
ANALYSIS_COLUMNS: tuple[Callable[[], sa.Column], ...] = (
    lambda: sa.Column("priority", sa.Integer),
    lambda: sa.Column("losses", sa.Integer),
    lambda: sa.Column("fence", sa.Integer),
    lambda: sa.Column("lease_holder", sa.String(200)),
    lambda: sa.Column("lease_expires_at", INSTANT),
    lambda: sa.Column("not_before", INSTANT),
    lambda: sa.Column("cancel_requested", sa.Boolean),
    lambda: sa.Column("subtitles", sa.JSON),
    lambda: sa.Column("progress", sa.Double),
    lambda: sa.Column("stage", sa.String(16)),
)


def upgrade() -> None:
    op.execute("DROP VIEW moment_view")
    _create_sources()
    _widen_videos()
    _widen_analyses()
    for table in SPANNED:
        op.add_column(table, sa.Column("starts_at", INSTANT))
        op.add_column(table, sa.Column("ends_at", INSTANT))
    op.create_index("ix_moments_starts_at", "moments", ["starts_at"])
    _create_submissions()
    _create_coverage()
    _create_search_index()
    _create_views()


def downgrade() -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    if _is_sqlite():
        op.execute("DROP TRIGGER forget_search_index")
    for table in ("search_index", "coverage", "requests", "submissions"):
        op.execute(f"DROP TABLE {table}")
    op.drop_index("ix_moments_starts_at", "moments")
    for table in SPANNED:
        op.drop_column(table, "ends_at")
        op.drop_column(table, "starts_at")
    _narrow_analyses()
    _narrow_videos()
    op.drop_table("sources")
    op.drop_table("collections")
    op.execute(OLD_MOMENT_VIEW)


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _create_sources() -> None:
    op.create_table(
        "collections",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_collections"),
        sa.UniqueConstraint("name", name="uq_collections_name"),
    )
    op.create_table(
        "sources",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("collection_id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("recorded_at_pattern", sa.Text),
        sa.Column("time_zone", sa.String(64)),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_sources_collection_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sources"),
        sa.UniqueConstraint("collection_id", "name", name="uq_sources_collection_id_name"),
    )


def _widen_videos() -> None:
    for column in VIDEO_COLUMNS:
        op.add_column("videos", column())
    op.execute(
        "UPDATE videos SET crashes = 0, added_at = coalesce((SELECT min(submitted_at) FROM analyses "
        "WHERE analyses.video_id = videos.id), CURRENT_TIMESTAMP)"
    )
    checks = {"ck_videos_state": VIDEO_STATES, "ck_videos_recorded_at_origin": ORIGINS}
    with _altered("videos", checks, old=("ck_videos_state",)) as batch:
        batch.alter_column("crashes", existing_type=sa.Integer, nullable=False)
        batch.alter_column("added_at", existing_type=INSTANT, nullable=False)
        batch.create_foreign_key("fk_videos_source_id", "sources", ["source_id"], ["id"], ondelete="SET NULL")
    op.create_index("ix_videos_source_id_recorded_at", "videos", ["source_id", "recorded_at"])
    op.create_index("ix_videos_recorded_at", "videos", ["recorded_at"])


def _narrow_videos() -> None:
    op.drop_index("ix_videos_source_id_recorded_at", "videos")
    op.drop_index("ix_videos_recorded_at", "videos")
    op.execute("UPDATE videos SET state = 'unreadable' WHERE state = 'quarantined'")
    old = ("ck_videos_state", "ck_videos_recorded_at_origin")
    with _altered("videos", {"ck_videos_state": OLD_VIDEO_STATES}, old) as batch:
        batch.drop_constraint("fk_videos_source_id", type_="foreignkey")
        for column in VIDEO_COLUMNS:
            batch.drop_column(column().name)


def _widen_analyses() -> None:
    for column in ANALYSIS_COLUMNS:
        op.add_column("analyses", column())
    # What an older program was at is begun anew: nobody holds a lease on it, and how often that program
    # began it says nothing of how often it failed.
    op.execute(
        "UPDATE analyses SET priority = 5, losses = 0, fence = attempts, cancel_requested = false, "
        "attempts = CASE WHEN state IN ('queued', 'running') THEN 0 ELSE attempts END, "
        "progress = CASE state WHEN 'succeeded' THEN 1.0 ELSE 0.0 END, "
        "state = CASE state WHEN 'running' THEN 'queued' ELSE state END"
    )
    op.drop_index("ix_analyses_video_id", "analyses")
    op.drop_index("ix_analyses_state_submitted_at", "analyses")
    with _altered("analyses", {"ck_analyses_state": STATES}, old=("ck_analyses_state",)) as batch:
        for name in ("priority", "losses", "fence"):
            batch.alter_column(name, existing_type=sa.Integer, nullable=False)
        batch.alter_column("cancel_requested", existing_type=sa.Boolean, nullable=False)
        batch.alter_column("progress", existing_type=sa.Double, nullable=False)
    op.create_index("ix_analyses_video_id_state", "analyses", ["video_id", "state"])
    _create_claim_index("analyses")
    op.create_index("ix_analyses_finished_at", "analyses", ["finished_at"])


def _narrow_analyses() -> None:
    for name in ("video_id_state", "state_priority_submitted_at", "finished_at"):
        op.drop_index(f"ix_analyses_{name}", "analyses")
    op.execute(
        "UPDATE analyses SET state = 'failed', error_code = 'cancelled', "
        "error_message = 'Somebody asked for the analysis to end.' WHERE state = 'cancelled'"
    )
    # The older program knows a claim by its number among the attempts, which must not be given twice.
    op.execute("UPDATE analyses SET attempts = fence WHERE attempts < fence")
    with _altered("analyses", {"ck_analyses_state": OLD_STATES}, old=("ck_analyses_state",)) as batch:
        for column in ANALYSIS_COLUMNS:
            batch.drop_column(column().name)
    op.create_index("ix_analyses_video_id", "analyses", ["video_id"])
    op.create_index("ix_analyses_state_submitted_at", "analyses", ["state", "submitted_at"])


@contextmanager
def _altered(table: str, checks: dict[str, str], old: tuple[str, ...]) -> Iterator[BatchOperations]:
    """A table to be altered, with other checks than before."""
    with op.batch_alter_table(table) as batch:
        for name in old:
            batch.drop_constraint(op.f(name), type_="check")
        for name, text in checks.items():
            batch.create_check_constraint(op.f(name), sa.text(text))
        yield batch


def _create_claim_index(table: str) -> None:
    columns = ["state", sa.text("priority DESC"), "submitted_at"]
    op.create_index(f"ix_{table}_state_priority_submitted_at", table, columns)


def _create_submissions() -> None:
    op.create_table(
        "submissions",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("lease_holder", sa.String(200)),
        sa.Column("lease_expires_at", INSTANT),
        sa.Column("not_before", INSTANT),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("submitted_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("uri", sa.Text, nullable=False),
        sa.Column("collection", sa.String(200)),
        sa.Column("source", sa.String(200)),
        sa.Column("recorded_at", INSTANT),
        sa.Column("force", sa.Boolean, nullable=False),
        sa.Column("callback_url", sa.Text),
        sa.Column("callback_attempts", sa.Integer, nullable=False),
        sa.Column("callback_at", INSTANT),
        sa.Column("callback_error", sa.Text),
        sa.Column("arguments", sa.JSON),
        sa.Column("video_id", ROW_ID),
        sa.CheckConstraint(STATES, name=op.f("ck_submissions_state")),
        sa.ForeignKeyConstraint(
            ["video_id"], ["videos.id"], name="fk_submissions_video_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_submissions"),
        sa.UniqueConstraint("key", name="uq_submissions_key"),
    )
    _create_claim_index("submissions")
    op.create_index("ix_submissions_video_id", "submissions", ["video_id"])
    op.create_index("ix_submissions_callback_at", "submissions", ["callback_at"])
    op.create_table(
        "requests",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("submission_id", ROW_ID, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("subtitles", sa.JSON),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("analysis_id", ROW_ID),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name="fk_requests_submission_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name="fk_requests_analysis_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
        sa.UniqueConstraint("submission_id", "position", name="uq_requests_submission_id_position"),
    )
    op.create_index("ix_requests_analysis_id", "requests", ["analysis_id"])


def _create_coverage() -> None:
    op.create_table(
        "coverage",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("analysis_id", ROW_ID, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("start_seconds", sa.Double, nullable=False),
        sa.Column("end_seconds", sa.Double, nullable=False),
        sa.Column("starts_at", INSTANT),
        sa.Column("ends_at", INSTANT),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("best_confidence", sa.Double),
        sa.Column("best_score", sa.Double),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.CheckConstraint(VERDICTS, name=op.f("ck_coverage_verdict")),
        sa.CheckConstraint(SPAN, name=op.f("ck_coverage_span")),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name="fk_coverage_analysis_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_coverage"),
        sa.UniqueConstraint("analysis_id", "position", name="uq_coverage_analysis_id_position"),
    )


def _create_search_index() -> None:
    words = "analyses.question || ' ' || coalesce(analyses.query, '') || ' ' || coalesce(answers.text, '') "
    rows = "FROM analyses LEFT JOIN answers ON answers.analysis_id = analyses.id"
    if _is_sqlite():
        op.execute("CREATE VIRTUAL TABLE search_index USING fts5(analysis_id UNINDEXED, document)")
        # The row is looked up by its rowid: FTS5 has no other index.
        op.execute(
            "INSERT INTO search_index (rowid, analysis_id, document) "
            f"SELECT analyses.id, analyses.id, {words} {rows}"
        )
        op.execute(
            "CREATE TRIGGER forget_search_index AFTER DELETE ON analyses BEGIN "
            "DELETE FROM search_index WHERE rowid = old.id; END"
        )
        return
    op.execute(
        "CREATE TABLE search_index (analysis_id BIGINT CONSTRAINT pk_search_index PRIMARY KEY "
        "CONSTRAINT fk_search_index_analysis_id REFERENCES analyses (id) ON DELETE CASCADE, "
        "document TSVECTOR NOT NULL)"
    )
    op.execute("CREATE INDEX ix_search_index_document ON search_index USING GIN (document)")
    op.execute(f"INSERT INTO search_index SELECT analyses.id, to_tsvector('simple', {words}) {rows}")


def _create_views() -> None:
    op.execute(MOMENT_VIEW)
    op.execute(ANSWER_VIEW)
    later = _LATER_SQLITE if _is_sqlite() else _LATER_POSTGRESQL
    view = COVERAGE_GAP_VIEW
    for column in ("start_seconds", "end_seconds"):
        instant = later.replace("{seconds}", f"gaps.{column}")
        view = view.replace(f"{{{column}_later}}", instant)
    op.execute(view)
    op.execute(QUEUE_VIEW)


# The instant so many seconds after a recording began, as precise as all others. A file may claim to last
# for longer than there are dates.
_LATER_POSTGRESQL = """
        CASE WHEN {seconds} <= 1000000000 THEN videos.recorded_at + {seconds} * INTERVAL '1 second' END"""
# SQLite calculates with milliseconds, so whole seconds and microseconds are added up apart.
_MICROSECONDS = """
                (CAST(substr(videos.recorded_at, 21, 6) AS INTEGER)
                + CAST(round({seconds} * 1000000) AS INTEGER))"""
_LATER_SQLITE = f"""
        CASE WHEN {{seconds}} <= 1000000000 THEN
            strftime(
                '%Y-%m-%d %H:%M:%S',
                strftime('%s', substr(videos.recorded_at, 1, 19)) + {_MICROSECONDS} / 1000000,
                'unixepoch'
            ) || printf('.%06d', {_MICROSECONDS} % 1000000)
        END"""

_WHENCE = """
    JOIN videos ON videos.id = analyses.video_id
    LEFT JOIN sources ON sources.id = videos.source_id
    LEFT JOIN collections ON collections.id = sources.collection_id
"""

MOMENT_VIEW = f"""
    CREATE VIEW moment_view AS
    SELECT
        moments.id AS moment_id,
        analyses.id AS analysis_id,
        videos.id AS video_id,
        collections.name AS collection,
        sources.name AS source,
        videos.uri AS video,
        analyses.question,
        moments.query,
        moments.rank,
        moments.starts_at,
        moments.ends_at,
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
    {_WHENCE}
    LEFT JOIN answers ON answers.analysis_id = analyses.id
"""

ANSWER_VIEW = f"""
    CREATE VIEW answer_view AS
    SELECT
        analyses.id AS analysis_id,
        videos.id AS video_id,
        collections.name AS collection,
        sources.name AS source,
        videos.uri AS video,
        analyses.question,
        analyses.options,
        answers.text AS answer,
        answers.option AS answer_option,
        answers.starts_at,
        answers.ends_at,
        answers.start_seconds,
        answers.end_seconds,
        analyses.fingerprint,
        analyses.finished_at
    FROM answers
    JOIN analyses ON analyses.id = answers.analysis_id
    {_WHENCE}
"""

# What of a video no window of an analysis has searched: before the first, between two, behind the last.
# A gap begins at the video's start, or where a window ends, if no other window goes on from there; it ends
# where the next one begins, or with the video. Nothing is added up over all analyses, so that the gaps of one
# video or source are found by indexes. Less than a millionth of a second is no gap.
COVERAGE_GAP_VIEW = f"""
    CREATE VIEW coverage_gap_view AS
    SELECT
        analyses.id AS analysis_id,
        videos.id AS video_id,
        collections.name AS collection,
        sources.name AS source,
        videos.uri AS video,
        analyses.question,
        analyses.state,
        gaps.start_seconds,
        gaps.end_seconds,
        {{start_seconds_later}} AS starts_at,
        {{end_seconds_later}} AS ends_at
    FROM (
        SELECT
            beginnings.analysis_id,
            beginnings.start_seconds,
            coalesce(
                (
                    SELECT min(later.start_seconds)
                    FROM coverage AS later
                    WHERE later.analysis_id = beginnings.analysis_id
                    AND later.start_seconds > beginnings.start_seconds
                    AND later.verdict IN ('found', 'nothing_found')
                    AND later.start_seconds < later.end_seconds
                ),
                videos.duration
            ) AS end_seconds
        FROM (
            SELECT
                id AS analysis_id,
                0 AS position,
                CAST(-1 AS DOUBLE PRECISION) AS searched_from,
                CAST(0 AS DOUBLE PRECISION) AS start_seconds,
                CAST('found' AS VARCHAR) AS verdict
            FROM analyses
            UNION ALL
            SELECT analysis_id, position, start_seconds, end_seconds, verdict FROM coverage
        ) AS beginnings
        JOIN analyses ON analyses.id = beginnings.analysis_id
        JOIN videos ON videos.id = analyses.video_id
        WHERE beginnings.verdict IN ('found', 'nothing_found')
        AND beginnings.searched_from < beginnings.start_seconds
        AND NOT EXISTS (
            SELECT 1
            FROM coverage AS other
            WHERE other.analysis_id = beginnings.analysis_id
            AND other.verdict IN ('found', 'nothing_found')
            AND other.start_seconds < other.end_seconds
            AND (
                (
                    other.start_seconds <= beginnings.start_seconds + 0.000001
                    AND other.end_seconds > beginnings.start_seconds
                )
                OR (other.end_seconds = beginnings.start_seconds AND other.position < beginnings.position)
            )
        )
    ) AS gaps
    JOIN analyses ON analyses.id = gaps.analysis_id
    {_WHENCE}
    WHERE gaps.end_seconds > gaps.start_seconds + 0.000001
"""

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

OLD_MOMENT_VIEW = """
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
