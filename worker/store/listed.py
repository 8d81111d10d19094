"""Rows that PostgreSQL takes as a JSON list: however many there are, one parameter of one statement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    CTE,
    JSON,
    Column,
    ColumnElement,
    Insert,
    Table,
    TableValuedAlias,
    bindparam,
    column,
    func,
    insert,
    literal_column,
    select,
    true,
)

from worker.columns import Base, plain_json


def columns_of(table: type[Base], *names: str) -> list[Column[Any]]:
    """Of a table, by name; all but `id` where none is named."""
    columns = cast(Table, table.__table__).columns
    return [columns[name] for name in names] or [each for each in columns if each.name != "id"]


def listed(parameter: str, columns: Iterable[Any]) -> TableValuedAlias:
    """The list as a table, with the given columns' names and types."""
    given = func.json_to_recordset(bindparam(parameter, type_=JSON))
    return given.table_valued(*(column(each.name, each.type) for each in columns)).render_derived(
        name=f"given_{parameter}", with_types=True
    )


def everything_of(given: TableValuedAlias) -> ColumnElement[Any]:
    """All its columns, in a few letters: the driver keeps no statement that is longer than 4,096."""
    return literal_column(f"{given.name}.*")


def insert_listed(table: type[Base], where: CTE) -> Insert:
    """Adds what the parameter named like the table lists, if the CTE gives a row."""
    into = columns_of(table)
    given = listed(table.__tablename__, into)
    everything = select(everything_of(given)).join_from(given, where, true())
    return insert(table).from_select([each.name for each in into], everything)


def as_list(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What such a parameter is given."""
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else plain_json(value)
