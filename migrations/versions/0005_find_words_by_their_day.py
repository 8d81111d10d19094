"""Find words within a time without looking at what was found at any other.

With the words of an analysis there are the days and months, UTC's, that its recording touches: `day20260601`
and `month202606`, or `anyday` as well where they are too many.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

WORDS = "analyses.question || ' ' || coalesce(analyses.query, '') || ' ' || coalesce(answers.text, '')"
ROWS = "FROM analyses LEFT JOIN answers ON answers.analysis_id = analyses.id"

LONG = "coalesce(duration, 0) > 366 * 86400"
LASTED = f"CASE WHEN {LONG} THEN 0 ELSE coalesce(duration, 0) END"
ANY_DAY = f"CASE WHEN {LONG} THEN ' anyday' ELSE '' END"

DAYS_POSTGRESQL = f"""
    SELECT id AS video_id, (
        SELECT string_agg(to_char(day, '"day"YYYYMMDD "month"YYYYMM'), ' ')
        FROM generate_series(date_trunc('day', began), began + lasted * interval '1 second', interval '1 day')
            AS day
    ) || any_day AS words
    FROM (
        SELECT id, recorded_at AT TIME ZONE 'UTC' AS began, {LASTED} AS lasted, {ANY_DAY} AS any_day
        FROM videos WHERE recorded_at IS NOT NULL
    ) AS recorded"""
DAYS_SQLITE = f"""
    WITH RECURSIVE days (video_id, day, ended, any_day) AS (
        SELECT id, date(recorded_at), date(recorded_at, {LASTED} || ' seconds'), {ANY_DAY}
        FROM videos WHERE recorded_at IS NOT NULL
        UNION ALL
        SELECT video_id, date(day, '+1 day'), ended, any_day FROM days WHERE day < ended
    )
    SELECT video_id,
        group_concat('day' || strftime('%Y%m%d', day) || ' month' || strftime('%Y%m', day), ' ') || any_day
            AS words
    FROM days
    GROUP BY video_id"""

WITH_DAYS = f"{WORDS} || coalesce(' ' || days.words, '')"
ROWS_WITH_DAYS = f"{ROWS} LEFT JOIN days ON days.video_id = analyses.video_id"


def upgrade() -> None:
    days = DAYS_SQLITE if _is_sqlite() else DAYS_POSTGRESQL
    op.execute(f"CREATE TEMPORARY TABLE days AS {days}")
    op.execute("CREATE UNIQUE INDEX temp.ix_days ON days (video_id)" if _is_sqlite() else "ANALYZE days")
    _fill(WITH_DAYS, ROWS_WITH_DAYS)
    op.execute("DROP TABLE days")


def downgrade() -> None:
    _fill(WORDS, ROWS)


def _fill(words: str, rows: str) -> None:
    """Anew: to change each document would take several times as long, and leave the index twice as large."""
    if _is_sqlite():
        op.execute("DROP TRIGGER forget_search_index")
        op.execute("DROP TABLE search_index")
        op.execute("CREATE VIRTUAL TABLE search_index USING fts5(analysis_id UNINDEXED, document)")
        op.execute(
            "INSERT INTO search_index (rowid, analysis_id, document) "
            f"SELECT analyses.id, analyses.id, {words} {rows} ORDER BY analyses.id"
        )
        op.execute(
            "CREATE TRIGGER forget_search_index AFTER DELETE ON analyses BEGIN "
            "DELETE FROM search_index WHERE rowid = old.id; END"
        )
        return
    op.execute("DROP INDEX ix_search_index_document")
    op.execute("TRUNCATE search_index")
    op.execute(f"INSERT INTO search_index SELECT analyses.id, to_tsvector('simple', {words}) {rows}")
    op.execute("CREATE INDEX ix_search_index_document ON search_index USING GIN (document)")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
