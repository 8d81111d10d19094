"""The commands around the database itself: its tables, who may read them, and SQL."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from vm.cli import app
from vm.terminal import progress
from worker import client, grants, reader, schema, show
from worker.options import AsCsv, AsJson, Database, form, settings

db = typer.Typer(help="Set up and check the database.", no_args_is_help=True)
app.add_typer(db, name="db")


@db.command()
def upgrade(database: Database = None) -> None:
    """Bring the tables to this program's version."""
    with settings(database_url=database) as chosen:
        with progress() as report:
            schema.upgrade(chosen.database_url, report)
        typer.echo(f"tables are of version {schema.check(chosen.database_url)}")


@db.command()
def check(database: Database = None) -> None:
    """Tell whether the tables are of this program's version."""
    with settings(database_url=database) as chosen:
        typer.echo(f"tables are of version {schema.check(chosen.database_url)}")


@db.command("grant")
def grant_reading(
    role: Annotated[str, typer.Argument(help="Of the analysts. Made if it is not there.")],
    apply: Annotated[bool, typer.Option("--apply", help="Run the statements, not only print them.")] = False,
    login: Annotated[bool, typer.Option("--login", help="A role that logs in by itself.")] = False,
    database: Database = None,
) -> None:
    """Print, or run, what lets a PostgreSQL role read all tables and views and change nothing."""
    with settings(database_url=database) as chosen:
        for statement in grants.apply(chosen.database_url, role, login=login, dry=not apply):
            typer.echo(f"{statement};")


@app.command()
def sql(
    statement: Annotated[
        str | None, typer.Argument(metavar="[STATEMENT]", help="One SELECT; without it a client opens.")
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show what one SELECT finds, or open psql or sqlite3 on the database. Nothing can be changed with it.

    \b
    videomind sql "SELECT video, start_seconds, end_seconds, question FROM moment_view WHERE rank = 1"
    videomind sql
    """
    chosen_form = form(as_json, as_csv)
    with settings(database_url=database) as chosen:
        if statement is None:
            program, environment = client.command(chosen.database_url)
            os.execve(program[0], program, {**os.environ, **environment})  # noqa: S606 - no shell
        show.write_rows(reader.read(chosen.database_url, statement), chosen_form)
