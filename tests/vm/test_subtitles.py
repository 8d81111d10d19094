import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.errors import SubtitleError
from vm.moments import Span
from vm.subtitles import MAX_BYTES, Cue, cues_within, read_subtitles

SRT = """1
00:00:01,000 --> 00:00:02,500
Good morning.

2
00:01:00,250 --> 01:00:00,000
First line
second line
"""

VTT = """WEBVTT - with a title

STYLE
::cue { color: red }

NOTE nothing to see

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Ann>Good <i>morning</i>.</v>

NOTE this stands between two cues

01:00:00.000 --> 01:00:01.000
what's<00:00:00.719><c> up</c> &amp; away
"""


def read(tmp_path: Path, content: str | bytes) -> tuple[Cue, ...]:
    path = tmp_path / "speech.srt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_subtitles(path)


def texts(cues: tuple[Cue, ...]) -> list[str]:
    return [cue.text for cue in cues]


def test_srt_gives_seconds_and_lines(tmp_path: Path) -> None:
    assert read(tmp_path, SRT) == (
        Cue(Span(1.0, 2.5), "Good morning."),
        Cue(Span(60.25, 3600.0), "First line\nsecond line"),
    )


def test_vtt_keeps_speech_only(tmp_path: Path) -> None:
    assert read(tmp_path, VTT) == (
        Cue(Span(1.0, 2.5), "Good morning."),
        Cue(Span(3600.0, 3601.0), "what's up & away"),
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_told_apart(tmp_path: Path, encoding: str) -> None:
    assert texts(read(tmp_path, SRT.replace("Good", "Schön “guten”").encode(encoding))) == [
        "Schön “guten” morning.",
        "First line\nsecond line",
    ]


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_of_other_systems_change_nothing(tmp_path: Path, line_end: str) -> None:
    assert read(tmp_path, SRT.replace("\n", line_end)) == read(tmp_path, SRT)


def test_indices_may_be_missing_and_numbers_may_be_spoken(tmp_path: Path) -> None:
    cues = read(tmp_path, "00:01 --> 00:02\n42\n\n00:02.5 --> 00:03\nnext\n3\n00:03 --> 00:04\nlast")
    assert texts(cues) == ["42", "next", "last"]
    assert cues[1].span == Span(2.5, 3.0)


def test_srt_text_goes_on_after_an_empty_line(tmp_path: Path) -> None:
    cues = read(
        tmp_path, "1\n00:00:01,000 --> 00:00:02,000\n\nsaid\n\nslowly\n\n2\n00:00:03,0 --> 00:00:04,0\nx"
    )
    assert texts(cues) == ["said\nslowly", "x"]


def test_empty_cues_are_left_out(tmp_path: Path) -> None:
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\n\nid of the next\n00:02.000 --> 00:03.000\nspoken\n"
    assert texts(read(tmp_path, vtt)) == ["spoken"]


def test_markup_goes_and_comparisons_stay(tmp_path: Path) -> None:
    line = r"{\an8}<font color='red'>if a < b and c > d</font> &lt;b&gt; I <3 you"
    assert texts(read(tmp_path, f"00:01 --> 00:02\n{line}")) == ["if a < b and c > d <b> I <3 you"]


def test_control_characters_are_dropped(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "00:01 --> 00:02\n\x1b[2Jhello\x07&#27;\tthere")) == ["[2Jhello there"]


def test_overlapping_cues_are_kept_in_order_of_start(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "00:05 --> 00:09\nb\n\n00:01 --> 00:07\na")) == ["a", "b"]


def test_an_arrow_in_speech_is_no_timing(tmp_path: Path) -> None:
    assert texts(read(tmp_path, "00:01 --> 00:02\nleft --> right")) == ["left --> right"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no subtitles"),
        ("just a letter\n", "holds no subtitles"),
        ("1\n00:00:13,980 --> 00:00:19wer,580\nx", "line 2: not a time range"),
        ("1\n00:00:09,000 --> 00:00:04,000\nx", "line 2: the subtitle ends before it starts"),
        (b"\x00\x01\x02\x03", "not a text file"),
        (b"\xff\xfe1", "not valid utf-16"),
        pytest.param(b" " * (MAX_BYTES + 1), "longer than", id="too long"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(SubtitleError, match=f"speech.srt.*{message}"):
        read(tmp_path, content)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.srt")
    refusals = {
        tmp_path: "not a regular file",
        tmp_path / "pipe.srt": "not a regular file",
        tmp_path / "missing.srt": "no such file",
        tmp_path / ("long" * 100): "no such file",
    }
    for path, message in refusals.items():
        with pytest.raises(SubtitleError, match=f"{path.name}: {message}"):
            read_subtitles(path)


def test_a_segment_gets_the_cues_wholly_inside_it_in_its_own_time() -> None:
    cues = [Cue(Span(start, start + 2.0), str(start)) for start in (8, 10, 14, 18, 19)]
    assert cues_within(cues, Span(10.0, 20.0)) == (
        Cue(Span(0.0, 2.0), "10"),
        Cue(Span(4.0, 6.0), "14"),
        Cue(Span(8.0, 10.0), "18"),
    )


@given(st.text())
def test_any_text_gives_cues_or_a_typed_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.srt"
    path.write_bytes(f"00:01 --> 00:02\nspoken {text}".encode(errors="surrogatepass"))
    with suppress(SubtitleError):
        assert read_subtitles(path)[0].text.startswith("spoken")
