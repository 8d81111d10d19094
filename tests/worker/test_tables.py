from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, create_engine, select
from sqlalchemy.exc import StatementError

from worker.tables import PlainText, UtcDateTime

engine = create_engine("sqlite://")
metadata = MetaData()
kept = Table("kept", metadata, Column("instant", UtcDateTime), Column("text", PlainText))
metadata.create_all(engine)

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def _stored(**values):
    with engine.begin() as connection:
        connection.execute(kept.delete())
        connection.execute(kept.insert().values(**values))
        return connection.execute(select(kept)).one()


@given(st.datetimes(datetime(1900, 1, 2), datetime(9999, 12, 30), timezones=zones))
def test_an_instant_comes_back_as_the_same_instant_in_utc(instant: datetime):
    found = _stored(instant=instant).instant
    assert found == instant
    assert found.tzinfo is UTC


def test_a_time_without_zone_is_refused():
    with pytest.raises(StatementError, match="without zone"):
        _stored(instant=datetime(2026, 1, 1))


def test_text_that_no_database_takes_is_made_plain():
    assert _stored(text="a\0b\udcffç").text == "a\ufffdb\\udcffç"


@given(st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_ordinary_text_is_left_alone(text: str | None):
    assert _stored(text=text).text == text
