"""Every query. Outside of this package rows are frozen dataclasses, and transactions are method calls."""

from __future__ import annotations

from types import TracebackType

from worker.store.analyses import Analyses
from worker.store.browse import Browse
from worker.store.callbacks import Callbacks
from worker.store.diffs import Diffs
from worker.store.hits import Hits
from worker.store.intake import Checked, Intakes
from worker.store.pruning import Pruning
from worker.store.queues import Queues
from worker.store.reindex import Reindex
from worker.store.schedules import Schedules
from worker.store.sessions import Sessions
from worker.store.sources import Sources
from worker.store.standing import Standings
from worker.store.submissions import Submissions

__all__ = ["Checked", "Store"]


class Store:
    """The database of one process.

    Raises:
        DatabaseUnusable: from every method, where the database cannot be opened or stops answering.
    """

    def __init__(self, url: str) -> None:
        sessions = Sessions(url)
        self.engine = sessions.engine
        self.submissions = Submissions(sessions)
        self.sources = Sources(sessions)
        self.intakes = Intakes(sessions)
        self.analyses = Analyses(sessions)
        self.callbacks = Callbacks(sessions)
        self.queues = Queues(sessions)
        self.reindex = Reindex(sessions)
        self.schedules = Schedules(sessions)
        self.diffs = Diffs(sessions)
        self.pruning = Pruning(sessions)
        self.standing = Standings(sessions)
        self.hits = Hits(sessions)
        self.browse = Browse(sessions)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.dispose()
