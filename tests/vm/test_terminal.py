import io
import sys

import pytest
import typer

from vm.errors import CheckpointNotFound, DownloadError, InvalidRoles, NoFrames, SubtitleError, VideoMindError
from vm.terminal import complain, exit_code, prepare_streams, print_json, progress, remark, run_app


@pytest.mark.parametrize(
    ("error", "code"),
    [(NoFrames, 3), (SubtitleError, 3), (CheckpointNotFound, 4), (InvalidRoles, 4), (DownloadError, 4)],
)
def test_errors_have_their_exit_codes(error: type[VideoMindError], code: int) -> None:
    assert exit_code(error("…")) == code


def test_an_error_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    complain(NoFrames("a\n\x1b[2Jb.mp4: nothing decodes"))
    assert capsys.readouterr().err == "videomind: a �[2Jb.mp4: nothing decodes\n"


def test_a_remark_is_a_line_of_its_own_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    remark("two\nlines")
    assert capsys.readouterr() == ("", "videomind: two lines\n")


def test_any_command_line_ends_as_the_librarys_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    application = typer.Typer()

    @application.command()
    def fail() -> None:
        raise InvalidRoles("roles.json: broken")

    monkeypatch.setattr(sys, "argv", ["videomind"])
    with pytest.raises(SystemExit) as end:
        run_app(application)
    assert (end.value.code, capsys.readouterr().err) == (4, "videomind: roles.json: broken\n")


def test_streams_of_any_encoding_take_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    prepare_streams()
    print("é", flush=True)
    print_json('"é \udcff"')
    narrow.flush()
    assert narrow.buffer.getvalue() == b'?\n"\xc3\xa9 \\udcff"\n'  # type: ignore[attr-defined]


def test_progress_is_silent_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with progress() as report:
        report("grounder", 0.5)
    assert capfd.readouterr() == ("", "")
