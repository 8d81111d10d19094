"""The library's commands, those of other modules mounted at the end. Knows no queue and no database.

Results go to stdout, progress and complaints to stderr. Exit codes: 0 a result, 2 wrong usage, 3 a bad
video or other input, 4 a bad checkpoint or one that cannot be fetched, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vm.bundled import choose_checkpoint
from vm.config import ChainSettings
from vm.errors import QuestionError
from vm.evaluation.cli import evaluate, sample_clips
from vm.inquiry import Inquiry, ask_all, watching
from vm.moments import Span
from vm.questions import Question, read_question_stream, read_questions
from vm.render import describe, plain, print_video
from vm.result import Mode
from vm.subtitles import read_subtitles
from vm.terminal import PROGRAM, exit_code, prepare_streams, print_json, remark, run_app
from vm.training.cli import make_verifier_data, train

_TIME = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,4}):)?(\d{1,9}(?:\.\d{1,9})?)", re.ASCII)

app = typer.Typer(
    name=PROGRAM,
    help="Find the moment in a video that answers a question, check it, and answer.",
    epilog="Exit codes: 0 a result, 2 wrong usage, 3 bad video or other input, 4 bad checkpoint.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text, one object per line.")]
Video = Annotated[Path, typer.Argument(metavar="VIDEO", help="A local video file.")]


@app.callback()
def prepare() -> None:
    """Runs before every command."""
    prepare_streams()


@app.command()
def ask(
    video: Video,
    question: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="Leave it out with --question-file.")
    ] = None,
    mode: Annotated[Mode, typer.Option(help="Other than auto: a fixed chain, without the planner.")] = "auto",
    option: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A possible answer; repeat it, at least twice.")
    ] = None,
    question_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One question per line, as text or as JSON; - is standard input."),
    ] = None,
    subtitles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="SRT or WebVTT, shown to the answerer.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", envvar="VIDEOMIND_CHECKPOINT", help="The VideoMind weights; else the bundled ones."
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", envvar="VIDEOMIND_BASE", help="Folder or hub name, if not beside the checkpoint."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(envvar="VIDEOMIND_DEVICE", help="auto, cpu, cuda or cuda:N.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(envvar="VIDEOMIND_DTYPE", help="auto, float32, bfloat16 or float16.")
    ] = "auto",
    feature_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", file_okay=False, help="Keep what is seen of videos for later, up to 20 GB."
        ),
    ] = None,
    window: Annotated[
        str, typer.Option(metavar="S", help="Seconds of a long video grounded in one pass, or none.")
    ] = f"{ChainSettings().window:g}",
    min_answer_seconds: Annotated[
        str | None,
        typer.Option(
            metavar="S", help="The least the answerer is shown; else the checkpoint's (published: 32)."
        ),
    ] = None,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(metavar="OUT.png", dir_okay=False, help="Frames of the best moments, to look at."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask one or many questions of a video.

    \b
    videomind ask yard.mp4 "When does the lorry leave?" --checkpoint VideoMind-2B
    videomind ask yard.mp4 "Who opens the gate?" --option "a guard" --option "nobody"
    videomind ask yard.mp4 --question-file questions.txt --json > results.jsonl

    A line of a question file is a question, or an object such as
    {"question": "Who opens the gate?", "options": ["a guard", "nobody"]}.
    A question that fails is told on stderr, and the others are answered all the same.
    With several questions the contact sheets are numbered: OUT-1.png, OUT-2.png.
    The bundled checkpoint knows only a synthetic world; videomind pull gets real weights.
    """
    check_contact_sheet(contact_sheet)
    questions = asked_questions([] if question is None else [question], option or (), question_file)
    cues = read_subtitles(subtitles) if subtitles else None
    least = None if min_answer_seconds is None else _seconds(min_answer_seconds, "--min-answer-seconds")
    inquiry = Inquiry(mode, cues, parse_window(window), least, as_json, contact_sheet)
    weights = choose_checkpoint(checkpoint, base, remark)
    with watching(video, weights, base, device, dtype, feature_cache) as watched:
        failures = ask_all(watched, questions, inquiry)
    if failures:
        raise typer.Exit(exit_code(failures[0]))


@app.command()
def probe(video: Video, as_json: AsJson = False) -> None:
    """Tell a video's length, frames, size, rotation and codec.

    \b
    videomind probe yard.mp4
    """
    # What needs torch is imported where it is used: it takes seconds, which --help need not wait for.
    from vm.video import probe as read_facts

    facts = read_facts(video)
    if as_json:
        print_json(json.dumps(vars(facts), ensure_ascii=False))
    else:
        print_video(facts, Console())


@app.command("export-clip")
def export_clip(
    video: Video,
    start: Annotated[str, typer.Argument(metavar="START", help="Seconds, or [h:]m:s.")],
    end: Annotated[str, typer.Argument(metavar="END", help="Seconds, or [h:]m:s.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.mp4", dir_okay=False, help="The file to write.")],
) -> None:
    """Cut a piece out of a video, without loss where its keyframes allow it.

    \b
    videomind export-clip yard.mp4 1:02.5 1:10 lorry.mp4
    """
    span = _span(start, end)
    if os.path.exists(target) and os.path.exists(video) and os.path.samefile(target, video):
        raise typer.BadParameter("the video itself cannot be written over", param_hint="OUT.mp4")
    from vm.video import export_clip as write_clip

    clip = write_clip(video, span, target)
    typer.echo(f"{plain(clip.path)}  {describe(clip.span)}  {'copied' if clip.copied else 're-encoded'}")


@app.command()
def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The checkpoint's name on the hub.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Gets the folders checkpoint and base.")],
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The base's name, if the checkpoint does not tell.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the checkpoint.")] = None,
    base_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the base.")] = None,
) -> None:
    """Fetch a checkpoint and its base from the hub, or go on with it.

    \b
    videomind pull yeliudev/VideoMind-2B --to models
    videomind import-checkpoint models/checkpoint --constants constants.py
    videomind ask yard.mp4 "When does the lorry leave?" --checkpoint models/checkpoint

    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured.
    """
    from vm.hub import pull as fetch

    pulled = fetch(model, to, base=base, revision=revision, base_revision=base_revision)
    for part, snapshot in (("checkpoint", pulled.checkpoint), ("base", pulled.base)):
        typer.echo(f"{pulled.folder / part}  {snapshot.repository}  {snapshot.commit}")


@app.command("import-checkpoint")
def import_checkpoint(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="The folder with the published weights.")
    ],
    constants: Annotated[
        Path, typer.Option(metavar="FILE", help="Your copy of the publisher's videomind/constants.py.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a roles.json that is there.")] = False,
) -> None:
    """Give published weights their prompts, read from the publisher's code without running it.

    \b
    videomind import-checkpoint models/checkpoint --constants VideoMind/videomind/constants.py
    """
    from vm.import_checkpoint import import_constants

    typer.echo(import_constants(checkpoint, constants, force))


def parse_window(text: str) -> float | None:
    """Seconds, or None for "none". Raises: typer.BadParameter."""
    if text == "none":
        return None
    try:
        return ChainSettings(window=_seconds(text, "--window")).window
    except QuestionError as error:
        raise typer.BadParameter(str(error), param_hint="--window") from error


def _span(start: str, end: str) -> Span:
    first, last = _seconds(start, "START"), _seconds(end, "END")
    if last <= first:
        raise typer.BadParameter("END must come after START", param_hint="END")
    return Span(first, last)


def _seconds(text: str, name: str) -> float:
    """Seconds, or hours, minutes and seconds divided by colons."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no time; write seconds or [h:]m:s", param_hint=name)
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds


def check_contact_sheet(target: Path | None) -> None:
    """Raises: typer.BadParameter where it could not be written once all work is done."""
    if target and not os.path.isdir(target.parent):
        raise typer.BadParameter(f"there is no folder {target.parent}", param_hint="--contact-sheet")


def asked_questions(
    given: Sequence[str], options: Sequence[str], file: Path | None
) -> list[Question | QuestionError]:
    """The questions given, all with the same options, or those of a file with theirs.

    Raises:
        typer.BadParameter: both or neither are given. QuestionError: the file asks nothing.
    """
    if bool(given) == (file is not None):
        raise typer.BadParameter("give a question or --question-file, and not both", param_hint="QUESTION")
    if given:
        return [_question(question, tuple(options)) for question in given]
    if options:
        raise typer.BadParameter("options of a question file stand in the file", param_hint="--option")
    assert file is not None
    return read_question_stream(sys.stdin.buffer) if str(file) == "-" else read_questions(file)


def _question(text: str, options: tuple[str, ...]) -> Question | QuestionError:
    """One that cannot be asked is no reason not to ask the others."""
    try:
        return Question(text, options)
    except QuestionError as error:
        return error


app.command()(evaluate)
app.command("sample-clips")(sample_clips)
app.command()(train)
app.command("make-verifier-data")(make_verifier_data)


if __name__ == "__main__":
    run_app(app)
