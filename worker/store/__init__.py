"""Every query. Outside of this package rows are frozen dataclasses, and transactions are method calls."""

from __future__ import annotations

from types import TracebackType

from worker.database import open_engine
from worker.store.analyses import Analyses
from worker.store.callbacks import Callbacks
from worker.store.intake import Checked, Intakes
from worker.store.queues import Queues
from worker.store.sessions import Sessions
from worker.store.submissions import Submissions

__all__ = ["Checked", "Store"]


class Store:
    """The database of one process.

    Raises:
        DatabaseUnusable: from every method, where the database cannot be opened or stops answering.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        sessions = Sessions(self.engine)
        self.submissions = Submissions(sessions)
        self.intakes = Intakes(sessions)
        self.analyses = Analyses(sessions)
        self.callbacks = Callbacks(sessions)
        self.queues = Queues(sessions)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.dispose()
