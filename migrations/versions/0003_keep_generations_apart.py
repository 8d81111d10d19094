"""Generations, re-indexing runs and their schedules, standing questions and their hits; secrets apart."""

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import sqlalchemy as sa
from alembic import op

from worker.columns import MaskedJson, MaskedText
from worker.masking import masked

revision = "0003"
down_revision = "0002"

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
RUN_STATES = "state IN ('planned', 'running', 'paused', 'finished', 'cancelled', 'rolled_back')"
ITEM_STATES = (
    "state IN ('waiting', 'asked', 'switched', 'unchanged', 'failed', 'cancelled', 'rolled_back', 'pruned')"
)
CATCH_UPS = "catch_up IN ('once', 'skip')"
DELIVERY_STATES = "delivery_state IN ('none', 'pending', 'delivered', 'dead')"
SPAN = "0 <= start_seconds AND start_seconds <= end_seconds"
SHOWN = ("moment_view", "answer_view", "coverage_gap_view", "queue_view")
NEW_VIEWS = ("moment_history_view", "answer_history_view", "moment_diff_view", "hit_view")
NEW_TABLES = (
    "secrets",
    "sightings",
    "hits",
    "standing_analyses",
    "standing_questions",
    "reindex_items",
)
CLAIM_INDEX = "ix_analyses_state_priority_submitted_at"
_BATCH = 5000


def upgrade() -> None:
    _drop_views(SHOWN)
    _create_generations()
    _create_runs()
    _widen_analyses()
    _create_items()
    _create_standing()
    _create_hits()
    _create_secrets()
    _create_views()


def downgrade() -> None:
    _drop_views((*NEW_VIEWS, *SHOWN))
    _put_secrets_back()
    for table in NEW_TABLES:
        op.drop_table(table)
    _narrow_analyses()
    for table in ("reindex_runs", "schedules", "generations"):
        op.drop_table(table)
    op.execute(_before().MOMENT_VIEW)
    op.execute(_before().ANSWER_VIEW)
    op.execute(_gap_view(""))
    op.execute(_before().QUEUE_VIEW)
    _restore_trigger()


def _drop_views(names: tuple[str, ...]) -> None:
    """And what else SQLite would lose, or stumble over, where it copies a table to alter it."""
    for view in names:
        op.execute(f"DROP VIEW {view}")
    if _is_sqlite():
        op.execute("DROP TRIGGER forget_search_index")


def _restore_trigger() -> None:
    if _is_sqlite():
        op.execute(
            "CREATE TRIGGER forget_search_index AFTER DELETE ON analyses BEGIN "
            "DELETE FROM search_index WHERE rowid = old.id; END"
        )


def _before() -> Any:
    return import_module("migrations.versions.0002_let_the_database_own_the_work")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _create_generations() -> None:
    op.create_table(
        "generations",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("begun_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_generations"),
        sa.UniqueConstraint("key", name="uq_generations_key"),
    )


def _create_runs() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("cron", sa.String(200), nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("rule", sa.JSON, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("catch_up", sa.String(16), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("last_slot", INSTANT, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint(CATCH_UPS, name=op.f("ck_schedules_catch_up")),
        sa.PrimaryKeyConstraint("id", name="pk_schedules"),
        sa.UniqueConstraint("name", name="uq_schedules_name"),
    )
    op.create_table(
        "reindex_runs",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("rule", sa.JSON, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("estimated_seconds", sa.Double),
        sa.Column("schedule_id", ROW_ID),
        sa.Column("slot", INSTANT),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.CheckConstraint(RUN_STATES, name=op.f("ck_reindex_runs_state")),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name="fk_reindex_runs_schedule_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reindex_runs"),
        sa.UniqueConstraint("schedule_id", "slot", name="uq_reindex_runs_schedule_id_slot"),
    )
    op.create_index("ix_reindex_runs_state", "reindex_runs", ["state"])


def _widen_analyses() -> None:
    op.add_column("analyses", sa.Column("asked_key", sa.String(64)))
    op.add_column("analyses", sa.Column("current", sa.Boolean))
    op.add_column("analyses", sa.Column("generation_id", ROW_ID))
    op.add_column("analyses", sa.Column("run_id", ROW_ID))
    op.add_column("analyses", sa.Column("compute_seconds", sa.Double))
    _fill_analyses()
    op.drop_index(CLAIM_INDEX, "analyses")  # SQLite's copy of the table would be sorted the other way
    with op.batch_alter_table("analyses") as batch:
        batch.alter_column("asked_key", existing_type=sa.String(64), nullable=False)
        batch.alter_column("current", existing_type=sa.Boolean, nullable=False)
        batch.alter_column("generation_id", existing_type=ROW_ID, nullable=False)
        batch.create_foreign_key("fk_analyses_generation_id", "generations", ["generation_id"], ["id"])
        batch.create_foreign_key(
            "fk_analyses_run_id", "reindex_runs", ["run_id"], ["id"], ondelete="SET NULL"
        )
    _create_claim_index()
    where = sa.text("current")
    op.create_index(
        "uq_analyses_current",
        "analyses",
        ["video_id", "asked_key"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )
    op.create_index("ix_analyses_video_id_asked_key", "analyses", ["video_id", "asked_key"])
    op.create_index("ix_analyses_generation_id", "analyses", ["generation_id"])
    op.create_index("ix_analyses_run_id_state", "analyses", ["run_id", "state"])


def _fill_analyses() -> None:
    """What was answered last is what readers go on seeing."""
    connection, generations = op.get_bind(), {}
    for rows in _in_batches(connection):
        filled = []
        for row in rows:
            made = (row.fingerprint, json.dumps(row.settings, sort_keys=True))
            if made not in generations:
                generations[made] = _add_generation(connection, row)
            asked = _asked_key(row.question, row.options, row.subtitles, row.mode)
            seconds = (row.seconds or {}).get("total")
            filled.append({"of": row.id, "asked": asked, "took": seconds, "made": generations[made]})
        connection.execute(
            sa.update(ANALYSES)
            .where(ANALYSES.c.id == sa.bindparam("of"))
            .values(
                asked_key=sa.bindparam("asked"),
                compute_seconds=sa.bindparam("took"),
                generation_id=sa.bindparam("made"),
                current=False,
            ),
            filled,
        )
    op.execute(
        "UPDATE analyses SET current = true WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER "
        "(PARTITION BY video_id, asked_key ORDER BY finished_at DESC, id DESC) AS place "
        "FROM analyses WHERE state = 'succeeded') AS ended WHERE place = 1)"
    )


ANALYSES = sa.table(
    "analyses",
    sa.column("id", ROW_ID),
    sa.column("question", sa.Text),
    sa.column("options", sa.JSON),
    sa.column("subtitles", sa.JSON),
    sa.column("mode", sa.String),
    sa.column("settings", sa.JSON),
    sa.column("fingerprint", sa.String),
    sa.column("seconds", sa.JSON),
    sa.column("submitted_at", INSTANT),
    sa.column("asked_key", sa.String),
    sa.column("current", sa.Boolean),
    sa.column("generation_id", ROW_ID),
    sa.column("compute_seconds", sa.Double),
)
GENERATIONS = sa.table(
    "generations",
    sa.column("id", ROW_ID),
    sa.column("key", sa.String),
    sa.column("fingerprint", sa.String),
    sa.column("settings", sa.JSON),
    sa.column("begun_at", INSTANT),
)


def _in_batches(connection: sa.Connection) -> Iterator[Any]:
    last = 0
    query = sa.select(ANALYSES).order_by(ANALYSES.c.id).limit(_BATCH)
    while rows := connection.execute(query.where(ANALYSES.c.id > last)).all():
        yield rows
        last = rows[-1].id


def _add_generation(connection: sa.Connection, row: Any) -> int:
    values = {
        "key": _sha256({"fingerprint": row.fingerprint, "settings": row.settings}),
        "fingerprint": row.fingerprint,
        "settings": row.settings,
        "begun_at": row.submitted_at,
    }
    found = connection.execute(sa.insert(GENERATIONS).values(values).returning(GENERATIONS.c.id))
    return int(found.scalar_one())


def _asked_key(question: str, options: list[str], subtitles: Any, mode: str) -> str:
    return _sha256({"question": question, "options": options, "subtitles": subtitles, "mode": mode})


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _narrow_analyses() -> None:
    for name in (
        "uq_analyses_current",
        "ix_analyses_video_id_asked_key",
        "ix_analyses_generation_id",
        "ix_analyses_run_id_state",
        CLAIM_INDEX,
    ):
        op.drop_index(name, "analyses")
    # Only what readers see is worth anything to a program that shows all there is.
    op.execute("DELETE FROM analyses WHERE state = 'succeeded' AND NOT current AND run_id IS NOT NULL")
    with op.batch_alter_table("analyses") as batch:
        batch.drop_constraint("fk_analyses_generation_id", type_="foreignkey")
        batch.drop_constraint("fk_analyses_run_id", type_="foreignkey")
        for column in ("asked_key", "current", "generation_id", "run_id", "compute_seconds"):
            batch.drop_column(column)
    _create_claim_index()


def _create_claim_index() -> None:
    op.create_index(CLAIM_INDEX, "analyses", ["state", sa.text("priority DESC"), "submitted_at"])


def _create_items() -> None:
    op.create_table(
        "reindex_items",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("run_id", ROW_ID, nullable=False),
        sa.Column("video_id", ROW_ID, nullable=False),
        sa.Column("asked_key", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("source_analysis_id", ROW_ID),
        sa.Column("request", sa.JSON),
        sa.Column("new_analysis_id", ROW_ID),
        sa.Column("replaced_analysis_id", ROW_ID),
        sa.Column("switched_at", INSTANT),
        sa.CheckConstraint(ITEM_STATES, name=op.f("ck_reindex_items_state")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reindex_runs.id"], name="fk_reindex_items_run_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["video_id"], ["videos.id"], name="fk_reindex_items_video_id", ondelete="CASCADE"
        ),
        *(
            sa.ForeignKeyConstraint(
                [column], ["analyses.id"], name=f"fk_reindex_items_{column}", ondelete="SET NULL"
            )
            for column in ("source_analysis_id", "new_analysis_id", "replaced_analysis_id")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reindex_items"),
        sa.UniqueConstraint(
            "run_id", "video_id", "asked_key", name="uq_reindex_items_run_id_video_id_asked_key"
        ),
    )
    op.create_index("ix_reindex_items_run_id_state", "reindex_items", ["run_id", "state"])
    for column in ("video_id", "source_analysis_id", "new_analysis_id", "replaced_analysis_id"):
        op.create_index(f"ix_reindex_items_{column}", "reindex_items", [column])


def _create_standing() -> None:
    op.create_table(
        "standing_questions",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("collection_id", ROW_ID, nullable=False),
        sa.Column("source_id", ROW_ID),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("threshold", sa.Double, nullable=False),
        sa.Column("active_from", INSTANT),
        sa.Column("active_until", INSTANT),
        sa.Column("hours", sa.String(11)),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("webhook_url", sa.Text),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name="fk_standing_questions_collection_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name="fk_standing_questions_source_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_standing_questions"),
        sqlite_autoincrement=True,  # whoever was told of one that is removed must not take another for it
    )
    op.create_index("ix_standing_questions_collection_id", "standing_questions", ["collection_id"])
    op.create_index("ix_standing_questions_source_id", "standing_questions", ["source_id"])
    op.create_table(
        "standing_analyses",
        sa.Column("standing_id", ROW_ID, nullable=False),
        sa.Column("analysis_id", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["standing_id"],
            ["standing_questions.id"],
            name="fk_standing_analyses_standing_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name="fk_standing_analyses_analysis_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("standing_id", "analysis_id", name="pk_standing_analyses"),
    )
    op.create_index("ix_standing_analyses_analysis_id", "standing_analyses", ["analysis_id"])


def _create_hits() -> None:
    op.create_table(
        "hits",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("standing_id", ROW_ID, nullable=False),
        sa.Column("video_id", ROW_ID, nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("start_seconds", sa.Double, nullable=False),
        sa.Column("end_seconds", sa.Double, nullable=False),
        sa.Column("starts_at", INSTANT),
        sa.Column("ends_at", INSTANT),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("found_at", INSTANT, nullable=False),
        sa.Column("delivery_state", sa.String(16), nullable=False),
        sa.Column("delivery_attempts", sa.Integer, nullable=False),
        sa.Column("deliver_at", INSTANT),
        sa.Column("delivered_at", INSTANT),
        sa.Column("delivery_error", sa.Text),
        sa.CheckConstraint(DELIVERY_STATES, name=op.f("ck_hits_delivery_state")),
        sa.CheckConstraint(SPAN, name=op.f("ck_hits_span")),
        sa.ForeignKeyConstraint(
            ["standing_id"], ["standing_questions.id"], name="fk_hits_standing_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name="fk_hits_video_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_hits"),
        sa.UniqueConstraint("event_id", name="uq_hits_event_id"),
        sqlite_autoincrement=True,  # what is new has a higher number
    )
    op.create_index("ix_hits_standing_id_ends_at", "hits", ["standing_id", "ends_at"])
    op.create_index("ix_hits_video_id", "hits", ["video_id"])
    op.create_index("ix_hits_delivery_state_deliver_at", "hits", ["delivery_state", "deliver_at"])
    op.create_table(
        "sightings",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("hit_id", ROW_ID, nullable=False),
        sa.Column("analysis_id", ROW_ID, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("start_seconds", sa.Double, nullable=False),
        sa.Column("end_seconds", sa.Double, nullable=False),
        sa.Column("starts_at", INSTANT),
        sa.Column("ends_at", INSTANT),
        sa.Column("cut_before", sa.Boolean, nullable=False),
        sa.Column("cut_after", sa.Boolean, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.CheckConstraint(SPAN, name=op.f("ck_sightings_span")),
        sa.ForeignKeyConstraint(["hit_id"], ["hits.id"], name="fk_sightings_hit_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["analysis_id"], ["analyses.id"], name="fk_sightings_analysis_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sightings"),
        sa.UniqueConstraint("hit_id", "analysis_id", "rank", name="uq_sightings_hit_id_analysis_id_rank"),
    )
    op.create_index("ix_sightings_analysis_id", "sightings", ["analysis_id"])


# Where URLs are, and texts with URLs in them.
SECRET_URLS = (("videos", "uri"), ("submissions", "uri"), ("submissions", "callback_url"))
TOLD_URLS = (
    ("videos", "error_message", MaskedText()),
    ("submissions", "error_message", MaskedText()),
    ("submissions", "callback_error", MaskedText()),
    ("submissions", "arguments", MaskedJson()),
    ("analyses", "error_message", MaskedText()),
)


def _create_secrets() -> None:
    owners = {"video": "videos", "submission": "submissions", "standing": "standing_questions"}
    op.create_table(
        "secrets",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        *(sa.Column(f"{owner}_id", ROW_ID) for owner in owners),
        *(
            sa.ForeignKeyConstraint(
                [f"{owner}_id"], [f"{table}.id"], name=f"fk_secrets_{owner}_id", ondelete="CASCADE"
            )
            for owner, table in owners.items()
        ),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
        *(sa.UniqueConstraint(f"{owner}_id", "name", name=f"uq_secrets_{owner}_id_name") for owner in owners),
    )
    if not _is_sqlite():
        _withhold_secrets()
    for table, column in SECRET_URLS:
        _keep_secrets(table, column)
        _mask(table, column, MaskedText())
    for told in TOLD_URLS:
        _mask(*told)


def _withhold_secrets() -> None:
    """Whoever may read all tables to come may not read this one."""
    readers = op.get_bind().execute(
        sa.text(
            "SELECT DISTINCT rolname FROM pg_class, aclexplode(relacl) AS granted "
            "JOIN pg_roles ON pg_roles.oid = granted.grantee "
            "WHERE pg_class.oid = 'secrets'::regclass AND granted.grantee <> relowner"
        )
    )
    quoted = op.get_bind().dialect.identifier_preparer.quote_identifier
    for reader in ("PUBLIC", *map(quoted, readers.scalars().all())):
        op.get_bind().exec_driver_sql(f"REVOKE ALL ON secrets FROM {reader}")


def _keep_secrets(table: str, column: str) -> None:
    """Copies what opens a URL to the table that analysts may not read."""
    owner = f"{table[:-1]}_id"
    kept = sa.table("secrets", sa.column("name"), sa.column("url"), sa.column(owner, ROW_ID))
    for rows in _with_urls(table, column, MaskedText()):
        secret = [(row.id, row.told) for row in rows if masked(row.told) != row.told]
        if secret:
            values = [{"name": column, "url": url, owner: of_row} for of_row, url in secret]
            op.get_bind().execute(sa.insert(kept), values)


def _mask(table: str, column: str, kind: MaskedText | MaskedJson) -> None:
    """Leaves of the URLs in a column what may be shown; its type sees to it."""
    changed = sa.table(table, sa.column("id", ROW_ID), sa.column(column, kind))
    change = sa.update(changed).where(changed.c.id == sa.bindparam("of"))
    for rows in _with_urls(table, column, kind):
        told = [{"of": row.id, column: row.told} for row in rows]
        op.get_bind().execute(change.values({column: sa.bindparam(column, type_=kind)}), told)


def _with_urls(table: str, column: str, kind: MaskedText | MaskedJson) -> Iterator[Any]:
    connection, last = op.get_bind(), 0
    here = sa.table(table, sa.column("id", ROW_ID), sa.column(column, kind))
    told = here.c[column]
    query = sa.select(here.c.id, told.label("told")).order_by(here.c.id).limit(_BATCH)
    query = query.where(sa.cast(told, sa.Text).like("%://%"))
    while rows := connection.execute(query.where(here.c.id > last)).all():
        yield rows
        last = rows[-1].id


def _put_secrets_back() -> None:
    for table, column in SECRET_URLS:
        of_row = f"secrets.{table[:-1]}_id = {table}.id AND secrets.name = '{column}'"
        op.execute(
            f"UPDATE {table} SET {column} = (SELECT url FROM secrets WHERE {of_row}) "
            f"WHERE EXISTS (SELECT 1 FROM secrets WHERE {of_row})"
        )


def _create_views() -> None:
    for name, text in (("moment", _before().MOMENT_VIEW), ("answer", _before().ANSWER_VIEW)):
        op.execute(f"{text} WHERE analyses.current")
        history = text.replace(f"{name}_view", f"{name}_history_view")
        op.execute(history.replace("analyses.finished_at", HISTORY_COLUMNS))
    op.execute(_gap_view(NOT_SUPERSEDED))
    op.execute(_before().QUEUE_VIEW)
    op.execute(MOMENT_DIFF_VIEW)
    op.execute(HIT_VIEW)
    _restore_trigger()


HISTORY_COLUMNS = "analyses.finished_at, analyses.current, analyses.generation_id, analyses.run_id"

# What is being asked anew, or has failed beside an answer that still stands, leaves no gap.
NOT_SUPERSEDED = """
    AND (
        analyses.current
        OR (
            analyses.run_id IS NULL
            AND NOT EXISTS (
                SELECT 1
                FROM analyses AS standing
                WHERE standing.video_id = analyses.video_id
                AND standing.asked_key = analyses.asked_key
                AND standing.current
            )
        )
    )
"""


def _gap_view(condition: str) -> str:
    before = _before()
    later = before._LATER_SQLITE if _is_sqlite() else before._LATER_POSTGRESQL
    view = before.COVERAGE_GAP_VIEW
    for column in ("start_seconds", "end_seconds"):
        view = view.replace(f"{{{column}_later}}", later.replace("{seconds}", f"gaps.{column}"))
    return view + condition


# Each old moment of a switched question beside each new one, and its place among those of the other side: by
# IoU, and then by rank. What is asked of one run is looked for in that run alone: each step is sorted by run,
# and in one way only, or SQLite would compare all of them first. It would so for a common table expression.
_PAIRS = """
            SELECT
                items.run_id,
                items.id AS item_id,
                old.id AS old_id,
                new.id AS new_id,
                old.rank AS old_rank,
                new.rank AS new_rank,
                CASE
                    WHEN old.id IS NULL OR new.id IS NULL THEN 0.0
                    WHEN old.start_seconds = new.start_seconds AND old.end_seconds = new.end_seconds THEN 1.0
                    WHEN old.end_seconds < new.start_seconds OR new.end_seconds < old.start_seconds THEN 0.0
                    ELSE (
                        CASE WHEN old.end_seconds < new.end_seconds THEN old.end_seconds
                            ELSE new.end_seconds END
                        - CASE WHEN old.start_seconds > new.start_seconds THEN old.start_seconds
                            ELSE new.start_seconds END
                    ) / (
                        CASE WHEN old.end_seconds > new.end_seconds THEN old.end_seconds
                            ELSE new.end_seconds END
                        - CASE WHEN old.start_seconds < new.start_seconds THEN old.start_seconds
                            ELSE new.start_seconds END
                    )
                END AS iou
            FROM reindex_items AS items
            LEFT JOIN moments AS old ON old.analysis_id = items.replaced_analysis_id
            LEFT JOIN moments AS new ON new.analysis_id = items.new_analysis_id
            WHERE items.switched_at IS NOT NULL
            AND items.state <> 'pruned'
"""
_PLACED = f"""(
        SELECT
            seen_by_old.*,
            row_number() OVER (PARTITION BY run_id, item_id, new_id ORDER BY iou DESC, old_rank) AS of_new
        FROM (
            SELECT
                pairs.*,
                row_number() OVER (PARTITION BY run_id, item_id, old_id ORDER BY iou DESC, new_rank) AS of_old
            FROM ({_PAIRS}) AS pairs
        ) AS seen_by_old
    )"""

# Old against new, for each question of a run that was switched. An old and a new moment are the same if each
# is the other's best match, and they share half of what they cover together. Where the old is pruned there is
# nothing to compare.
MOMENT_DIFF_VIEW = f"""
    CREATE VIEW moment_diff_view AS
    WITH changes AS (
        SELECT
            run_id,
            item_id,
            CASE WHEN of_new > 1 OR iou < 0.5 THEN 'lost'
                WHEN iou < 0.9 THEN 'shifted' ELSE 'kept' END AS change,
            old_id,
            CASE WHEN of_new = 1 AND iou >= 0.5 THEN new_id END AS new_id,
            CASE WHEN of_new = 1 AND iou >= 0.5 THEN iou END AS iou
        FROM {_PLACED} AS placed
        WHERE of_old = 1 AND old_id IS NOT NULL
        UNION ALL
        SELECT run_id, item_id, 'gained', NULL, new_id, NULL
        FROM {_PLACED} AS placed
        WHERE of_new = 1 AND new_id IS NOT NULL AND (of_old > 1 OR iou < 0.5)
        UNION ALL
        SELECT items.run_id, items.id, 'answer changed', NULL, NULL, NULL
        FROM reindex_items AS items
        LEFT JOIN answers AS before ON before.analysis_id = items.replaced_analysis_id
        LEFT JOIN answers AS after ON after.analysis_id = items.new_analysis_id
        WHERE items.switched_at IS NOT NULL
        AND items.replaced_analysis_id IS NOT NULL
        AND before.text IS DISTINCT FROM after.text
    )
    SELECT
        changes.run_id,
        changes.change,
        items.video_id,
        videos.uri AS video,
        asked.question,
        items.replaced_analysis_id AS old_analysis_id,
        items.new_analysis_id,
        old.rank AS old_rank,
        new.rank AS new_rank,
        old.start_seconds AS old_start_seconds,
        old.end_seconds AS old_end_seconds,
        new.start_seconds AS new_start_seconds,
        new.end_seconds AS new_end_seconds,
        changes.iou,
        coalesce(old.verifier_score, old.confidence) AS old_score,
        coalesce(new.verifier_score, new.confidence) AS new_score,
        before.text AS old_answer,
        after.text AS new_answer
    FROM changes
    JOIN reindex_items AS items ON items.id = changes.item_id
    JOIN videos ON videos.id = items.video_id
    JOIN analyses AS asked ON asked.id = items.new_analysis_id
    LEFT JOIN moments AS old ON old.id = changes.old_id
    LEFT JOIN moments AS new ON new.id = changes.new_id
    LEFT JOIN answers AS before ON before.analysis_id = items.replaced_analysis_id
    LEFT JOIN answers AS after ON after.analysis_id = items.new_analysis_id
"""

HIT_VIEW = """
    CREATE VIEW hit_view AS
    SELECT
        hits.id AS hit_id,
        hits.event_id,
        standing_questions.id AS standing_id,
        standing_questions.question,
        collections.name AS collection,
        sources.name AS source,
        videos.id AS video_id,
        videos.uri AS video,
        hits.starts_at,
        hits.ends_at,
        hits.start_seconds,
        hits.end_seconds,
        hits.score,
        hits.answer,
        (SELECT count(*) FROM sightings WHERE sightings.hit_id = hits.id) AS sightings,
        hits.found_at,
        hits.delivery_state,
        hits.delivery_attempts,
        hits.delivered_at,
        hits.delivery_error
    FROM hits
    JOIN standing_questions ON standing_questions.id = hits.standing_id
    JOIN collections ON collections.id = standing_questions.collection_id
    JOIN videos ON videos.id = hits.video_id
    LEFT JOIN sources ON sources.id = videos.source_id
"""
