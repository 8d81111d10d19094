import pytest

from vm import errors as library
from vm.terminal import exit_code
from worker.errors import INTERNAL_ERROR, StaleSchema, WrongCheckpoint, exit_status


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (library.NoFrames.code, 3),
        (library.VideoError.code, 3),
        (library.SubtitleError.code, 3),
        (library.UnsafeWeights.code, 4),
        (WrongCheckpoint.code, 4),
        (StaleSchema.code, 3),
        (library.DownloadError.code, 4),
        (INTERNAL_ERROR, 1),
    ],
)
def test_an_error_code_decides_the_exit_status(code: str, status: int):
    assert exit_status(code) == status


@pytest.mark.parametrize("kind", [library.NoFrames, library.InvalidRoles, library.DownloadError, StaleSchema])
def test_a_stored_failure_ends_the_command_as_a_raised_one_does(kind: type[library.VideoMindError]):
    assert exit_status(kind.code) == exit_code(kind("what went wrong"))
