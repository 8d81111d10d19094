"""The commands that show what standing questions have found, and deliver it after all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from vm.cli import app
from vm.render import describe, plain
from vm.terminal import print_json, remark
from worker.errors import DatabaseUnusable, InvalidRule
from worker.masking import masked
from worker.options import AsJson, Database, opened_store
from worker.sources.local import local_path
from worker.standing import Hit
from worker.standing_cli import LARGEST_ID, instant, place
from worker.store import Store

hits = typer.Typer(help="What standing questions have found.", invoke_without_command=True)
app.add_typer(hits, name="hits")

_PAUSE = 1.0  # seconds between two looks for new hits
_LATE = 60.0  # seconds that a transaction may end after one that began later
_KNOWN = 1000  # hits looked back upon


@hits.callback()
def show_hits(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new ones as they come.")] = False,
    standing_id: Annotated[
        int | None,
        typer.Option("--standing", metavar="ID", min=1, max=LARGEST_ID, help="Of one standing question."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Found then or later, with its zone.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Whose delivery was given up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=_KNOWN, help="The last ones.")] = 100,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Show what standing questions have found, the latest last.

    \b
    videomind hits --follow --standing 3
    videomind hits --dead
    videomind hits retry 17 18
    """
    if context.invoked_subcommand:
        _check_nothing_given(context)
        return
    if follow and dead:
        raise typer.BadParameter("what comes is not given up", param_hint="--dead")
    found_since = instant(since, "--since")
    with opened_store(database) as store:
        _check_known(store, standing_id)
        if dead:
            _show(store.hits.latest(standing_id, found_since, "dead", most=limit), as_json)
            return
        known = store.hits.latest(standing_id, most=_KNOWN)
        shown = [hit for hit in known if found_since is None or hit.found_at >= found_since]
        if shown or not follow:
            _show(shown[-limit:], as_json)
        if follow:
            for new in _coming(store, standing_id, known):
                _print(new, as_json)


@hits.command()
def retry(
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID...", min=1, max=LARGEST_ID, help="As `videomind hits --dead` has them."),
    ] = None,
    all_dead: Annotated[bool, typer.Option("--dead", help="All whose delivery was given up.")] = False,
    database: Database = None,
) -> None:
    """Have hits delivered after all whose delivery was given up."""
    if bool(ids) == all_dead:
        raise typer.BadParameter("give hits, or --dead", param_hint="ID")
    with opened_store(database) as store:
        count = store.hits.retry(ids or None)
    typer.echo(f"{count} will be tried again")
    if others := ids and len(set(ids)) - count:
        remark(f"{others} of them were not given up, or are not there: see `videomind hits --dead`")


def _check_nothing_given(context: typer.Context) -> None:
    """Raises: typer.BadParameter for what stands before the name of another command, and would not count."""
    for option in context.command.params:
        origin = context.get_parameter_source(str(option.name))
        if origin and origin.name == "COMMANDLINE":
            told = f"it stands before {context.invoked_subcommand}, which does not take it from there"
            raise typer.BadParameter(told, param_hint=option.opts[0])


def _check_known(store: Store, standing_id: int | None) -> None:
    if standing_id is not None and all(kept.id != standing_id for kept in store.standing.all()):
        raise InvalidRule(f"there is no standing question {standing_id}: see `videomind standing list`")


def _coming(store: Store, standing_id: int | None, known: Sequence[Hit]) -> Iterator[Hit]:
    """New hits, for ever. Who began to write first may be done last, so that what is new may have a lower id
    than what is known: it is looked for some way behind."""
    seen = {hit.id for hit in known}
    floor, mark = min(seen, default=1) - 1, max(seen, default=0)
    marked = time.monotonic()
    while True:
        new = [hit for hit in _found(store, standing_id, floor) if hit.id not in seen]
        yield from new
        seen |= {hit.id for hit in new}
        if time.monotonic() - marked > _LATE:
            floor, mark, marked = mark, max(seen, default=mark), time.monotonic()
            seen = {id for id in seen if id > floor}
        time.sleep(_PAUSE)


def _found(store: Store, standing_id: int | None, after: int) -> Sequence[Hit]:
    """Waits for a database that is away: whoever follows need not be there to begin anew."""
    told = False
    while True:
        try:
            return store.hits.latest(standing_id, after=after)
        except DatabaseUnusable as error:
            if not told:
                remark(f"waiting: {error}")
            told = True
        time.sleep(_PAUSE)


def _show(found: Sequence[Hit], as_json: bool) -> None:
    for hit in found:
        _print(hit, as_json)
    if not found:
        remark("nothing found")


def _print(hit: Hit, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps(hit.to_dict(), ensure_ascii=False))
    else:
        typer.echo(_line(hit))


def _line(hit: Hit) -> str:
    when = f"{hit.starts_at:%Y-%m-%d %H:%M:%S} UTC" if hit.starts_at else ""
    told = "" if hit.delivery_state == "none" else hit.delivery_state
    error = hit.error if hit.delivery_state in ("pending", "dead") else None
    parts = (
        str(hit.id),
        when,
        place(hit.collection, hit.source),
        plain(local_path(hit.uri).name),
        describe(hit.span),
        f"{hit.score:.2f}",
        plain(hit.question),
        plain(hit.answer or ""),
        f"{told}: {plain(masked(error))}" if error else told,
    )
    return "  ".join(filter(None, parts))
