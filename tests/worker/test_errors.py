import pytest

from vm import errors as library
from worker.errors import INTERNAL_ERROR, StaleSchema, WrongCheckpoint, exit_status


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (library.NoFrames.code, 3),
        (library.VideoError.code, 3),
        (library.SubtitleError.code, 3),
        (library.UnsafeWeights.code, 4),
        (WrongCheckpoint.code, 4),
        (StaleSchema.code, 1),
        (library.DownloadError.code, 1),
        (INTERNAL_ERROR, 1),
    ],
)
def test_an_error_code_decides_the_exit_status(code: str, status: int):
    assert exit_status(code) == status
