import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Row, Table, exists, select, update
from sqlalchemy.exc import StatementError

from tests.servers import DATABASES
from worker.columns import Beside, Clock, PlainJson, PlainString, PlainText, UtcDateTime
from worker.database import open_engine

pytestmark = pytest.mark.parametrize("database", DATABASES)

metadata = MetaData()
kept = Table(
    "kept",
    metadata,
    Column("instant", UtcDateTime),
    Column("text", PlainText),
    Column("name", PlainString(8)),
    Column("json", PlainJson),
)

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(characters)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(texts, parts, max_size=3),
    max_leaves=8,
)
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def stored(empty: str) -> Iterator[Callable[..., Row]]:
    """Keeps a row, and gives what comes back."""
    engine = open_engine(empty)
    metadata.create_all(engine)

    def keep(**values: Any) -> Row:
        with engine.begin() as connection:
            connection.execute(kept.delete())
            connection.execute(kept.insert().values(**values))
            return connection.execute(select(kept)).one()

    yield keep
    engine.dispose()


@quick
@given(instant=st.datetimes(datetime(1900, 1, 2), datetime(9999, 12, 30), timezones=zones))
def test_an_instant_comes_back_as_the_same_instant_in_utc(stored, instant: datetime):
    found = stored(instant=instant).instant
    assert found == instant
    assert found.tzinfo is UTC


@quick
@given(
    instants=st.lists(st.datetimes(datetime(1900, 1, 2), datetime(9999, 12, 30), timezones=zones), min_size=2)
)
def test_instants_are_compared_as_instants_whatever_their_zones(empty: str, instants: list[datetime]):
    engine = open_engine(empty)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(kept.delete())
        connection.execute(kept.insert(), [{"instant": instant} for instant in instants])
        earlier = connection.scalars(select(kept.c.instant).where(kept.c.instant < instants[0])).all()
        assert sorted(earlier) == sorted(one for one in instants if one < instants[0])
    engine.dispose()


def test_a_time_without_zone_is_refused(stored):
    with pytest.raises(StatementError, match="without zone"):
        stored(instant=datetime(2026, 1, 1))


def test_text_that_no_database_takes_is_made_plain(stored):
    assert stored(text="a\0b\udcffç").text == "a\ufffdb\\udcffç"


def test_a_name_of_limited_length_does_not_become_longer_by_that(stored):
    assert stored(name="a\0b\udcff\ud800xyz").name == "a\ufffdb\ufffd\ufffdxyz"


@quick
@given(text=st.none() | texts)
def test_ordinary_text_is_left_alone(stored, text: str | None):
    assert stored(text=text).text == text


@quick
@given(value=json_values)
@example(value={"a": [0.1, -0.0, 1e300, 5e-324], "ü": "\u2028"})
def test_json_comes_back_as_it_went_in(stored, value: Any):
    assert stored(json=value).json == value


def test_json_that_no_database_takes_is_made_plain(stored):
    value = {"a\0": ["\udcff", math.nan, -math.inf, ("x",)], 1: {"b": "\0"}}
    assert stored(json=value).json == {
        "a\ufffd": ["\\udcff", "nan", "-inf", ["x"]],
        "1": {"b": "\ufffd"},
    }


def test_no_json_is_null_and_not_the_json_null(stored, empty: str):
    assert stored(json=None).json is None
    with open_engine(empty).connect() as connection:
        assert connection.execute(select(kept.c.json.is_(None))).scalars().all() == [True]


def test_the_clock_counts_microseconds_and_adds_seconds(empty: str):
    engine = open_engine(empty)
    with engine.connect() as connection:
        before = datetime.now(UTC)
        here, later = connection.execute(select(Clock(), Clock(90.5))).one()
        assert timedelta(0) <= here - before < timedelta(minutes=1)
        assert timedelta(seconds=90.5) <= later - here < timedelta(seconds=91)
        again = [connection.scalar(select(Clock())).microsecond % 1000 for _ in range(20)]
        assert any(again)
    engine.dispose()


def test_the_clock_is_kept_as_any_instant_is(empty: str):
    engine = open_engine(empty)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(kept.insert().values(instant=Clock(60)))
        stored = connection.scalar(select(kept.c.instant))
        assert connection.scalar(select(kept.c.instant).where(kept.c.instant == stored)) == stored
        assert connection.scalar(select(kept.c.instant).where(kept.c.instant < Clock())) is None
        assert connection.scalar(select(kept.c.instant).where(kept.c.instant > Clock())) == stored
    engine.dispose()


def test_what_a_subquery_finds_beside_a_changed_row_is_about_that_row(empty: str):
    """Both tables have a column of one name."""
    engine = open_engine(empty)
    changed = Table("changed", MetaData(), Column("id", Integer, primary_key=True), Column("seen", Integer))
    other = Table("other", changed.metadata, Column("id", Integer, primary_key=True), Column("of", Integer))
    changed.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(changed.insert(), [{"id": 1}, {"id": 2}])
        connection.execute(other.insert(), [{"id": 5, "of": 1}, {"id": 6, "of": 6}])
        found = Beside(exists().where(other.c.of == changed.c.id).correlate(changed))
        seen = connection.execute(update(changed).values(seen=1).returning(changed.c.id, found)).all()
    assert sorted(map(tuple, seen)) == [(1, True), (2, False)]
    engine.dispose()
