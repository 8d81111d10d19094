from datetime import timedelta

import pytest

from vm import errors
from vm.errors import VideoMindError
from vm.terminal import exit_code
from worker import errors as own
from worker.errors import INTERNAL_ERROR, StaleSchema, exit_status, is_retryable, retry_delay


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (INTERNAL_ERROR, 1),
        ("bad_video", 3),
        ("no_frames", 3),
        ("source_unavailable", 3),
        (StaleSchema.code, 3),
        ("bad_checkpoint", 4),
        ("missing_role", 4),
        ("something new", 3),
    ],
)
def test_a_stored_code_gives_the_status_its_error_would(code: str, status: int):
    assert exit_status(code) == status


@pytest.mark.parametrize(
    "kind", [errors.NoFrames, errors.InvalidRoles, errors.DownloadError, StaleSchema, own.SourceTooLarge]
)
def test_a_stored_failure_ends_the_command_as_a_raised_one_does(kind: type[VideoMindError]):
    assert exit_status(kind.code) == exit_code(kind("what went wrong"))


def _tree(branch: type[VideoMindError]) -> list[type[VideoMindError]]:
    return [branch, *(found for child in branch.__subclasses__() for found in _tree(child))]


def test_every_error_of_the_service_has_a_code_of_its_own_and_stands_in_the_tree():
    # What one module raises and catches itself, under a private name, has the code of what it is.
    codes = [each.code for each in _tree(VideoMindError) if not each.__name__.startswith("_")]
    assert len(codes) == len(set(codes))
    for each in _tree(VideoMindError):
        if each.__module__ == own.__name__:
            assert f" {each.__name__} " in (own.__doc__ or "").replace("\n", " ")


@pytest.mark.parametrize(
    "error",
    [
        own.SourceUnavailable(""),
        own.DatabaseUnusable(""),
        errors.OutOfMemory(""),
        errors.DecoderCrashed(""),
        RuntimeError("nobody foresaw it"),
    ],
)
def test_what_may_pass_is_tried_again(error: Exception):
    assert is_retryable(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.UnsupportedMedia(""),
        errors.QuestionError(""),
        errors.CheckpointError(""),
        own.SourceForbidden(""),
        own.InvalidMessage(""),
        own.Quarantined(""),
    ],
)
def test_what_stays_bad_is_not(error: Exception):
    assert not is_retryable(error)


def test_delays_grow_up_to_a_limit():
    delays = [retry_delay(attempt) for attempt in range(1, 20)]
    assert delays == sorted(delays)
    assert delays[:3] == [timedelta(seconds=5), timedelta(seconds=20), timedelta(seconds=80)]
    assert delays[-1] == timedelta(minutes=10)
