"""What a re-indexing run has changed for readers: `moment_diff_view`, counted and in rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select, text

from worker.store.sessions import Sessions
from worker.tables import Video

Change = Literal["kept", "shifted", "gained", "lost", "answer changed"]

_COUNT = text(
    "SELECT change, count(*) FROM moment_diff_view WHERE run_id = :run AND (:ranks OR "
    "coalesce(old_rank, 1) = 1 AND coalesce(new_rank, 1) = 1) GROUP BY change"
)
# What was found or lost with the highest score first, what moved farthest, what is said otherwise.
_LARGEST = text(
    "SELECT change, video_id, video, question, old_analysis_id, new_analysis_id, old_start_seconds, "
    "old_end_seconds, new_start_seconds, new_end_seconds, iou, old_score, new_score, old_answer, new_answer "
    "FROM moment_diff_view WHERE run_id = :run AND change <> 'kept' AND (:ranks OR "
    "coalesce(old_rank, 1) = 1 AND coalesce(new_rank, 1) = 1) "
    "ORDER BY CASE change WHEN 'shifted' THEN 1.0 - iou WHEN 'answer changed' THEN 1.0 "
    "ELSE coalesce(old_score, new_score) END DESC, video_id, new_analysis_id, change LIMIT :most"
)


@dataclass(frozen=True)
class Changed:
    """One difference between what readers saw and what they see. Seconds; None where there is none.

    `video` is where it is, without what is secret in it.
    """

    change: Change
    video_id: int
    video: str
    question: str
    old_analysis_id: int | None
    new_analysis_id: int
    old_start_seconds: float | None
    old_end_seconds: float | None
    new_start_seconds: float | None
    new_end_seconds: float | None
    iou: float | None
    old_score: float | None
    new_score: float | None
    old_answer: str | None
    new_answer: str | None


class Diffs:
    """Compares, moment by moment; the best moments only, unless all ranks are asked for."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def count(self, run_id: int, all_ranks: bool = False) -> Mapping[Change, int]:
        """How many differences there are of each kind."""
        with self._sessions.begin() as session:
            return dict(session.execute(_COUNT, {"run": run_id, "ranks": all_ranks}).all())

    def largest(self, run_id: int, most: int = 20, all_ranks: bool = False) -> list[Changed]:
        """The largest of them first, those that were kept left out."""
        with self._sessions.begin() as session:
            found = session.execute(_LARGEST, {"run": run_id, "most": most, "ranks": all_ranks})
            return [Changed(*row) for row in found]

    def places(self, video_ids: Collection[int]) -> dict[int, tuple[str, str]]:
        """Where videos are, with all that opens them, and the sha256 of their content, by id."""
        with self._sessions.reading() as session:
            videos = session.scalars(select(Video).where(Video.id.in_(video_ids)))
            return {video.id: (video.uri, video.sha256) for video in videos}
