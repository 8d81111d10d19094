"""The commands `videomind evaluate` and `videomind sample-clips`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from vm.bundled import choose_checkpoint
from vm.config import ChainSettings
from vm.evaluation.annotations import Format, annotation, read_annotations, write_annotations
from vm.evaluation.samples import Sample
from vm.render import clock, plain
from vm.terminal import print_json, progress, remark

if TYPE_CHECKING:  # these take seconds to import, which --help and wrong usage need not wait for
    from vm.evaluation.contest import Contest
    from vm.evaluation.report import Report

SCENES = "scenes"
TRUTH = "truth.jsonl"

_DEFAULTS = ChainSettings()

_model = partial(typer.Option, rich_help_panel="Model")
_beside = partial(typer.Option, rich_help_panel="Beside it")
_world = partial(typer.Option, rich_help_panel="Of scenes")
_file = partial(typer.Option, rich_help_panel="Of a FILE")
_output = partial(typer.Option, rich_help_panel="Output")

What = Annotated[str, typer.Argument(metavar="scenes|FILE", help="The synthetic world, or annotations.")]
Checkpoint = Annotated[
    Path | None,
    _model(
        metavar="DIR", envvar="VIDEOMIND_CHECKPOINT", help="The VideoMind weights; else the bundled ones."
    ),
]
Base = Annotated[
    str | None,
    _model(metavar="DIR", envvar="VIDEOMIND_BASE", help="Folder or hub name, if not beside the checkpoint."),
]
Device = Annotated[str, _model(envvar="VIDEOMIND_DEVICE", help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, _model(envvar="VIDEOMIND_DTYPE", help="auto, float32, bfloat16 or float16.")]
WithoutPlanner = Annotated[
    bool, _model("--without-planner", help="Every question goes straight to the grounder.")
]
WithoutVerifier = Annotated[bool, _model("--without-verifier", help="The grounder's order stands.")]
SinglePass = Annotated[bool, _model("--single-pass", help="Ground long videos in one pass, as published.")]
MinAnswerSeconds = Annotated[
    float | None,
    _model(metavar="S", min=0, help="The least the answerer is shown; else each checkpoint's."),
]

Ablations = Annotated[bool, _beside("--ablations", help="The chain without verifier, and without planner.")]
Compare = Annotated[
    list[str] | None,
    _beside(metavar="NAME=DIR[,DIR…]", help="Another checkpoint, or several as one; repeat it."),
]
Baselines = Annotated[bool, _beside(help="The whole video as the moment, and chance.")]

Clips = Annotated[int, _world(metavar="N", min=1, help="How many clips.")]
HeldOutClips = Annotated[
    int, _world(metavar="N", min=0, help="How many clips with combinations never trained on.")
]
ClipSplit = Annotated[Literal["test", "validation"], _world(help="Which clips.")]
First = Annotated[int, _world(metavar="N", min=0, help="How many clips of the split to leave out.")]
Workdir = Annotated[Path, _world(metavar="DIR", file_okay=False, help="Keeps the clips for later runs.")]

Form = Annotated[Format, _file("--format", help="How it is written.")]
Videos = Annotated[Path | None, _file(metavar="DIR", help="The videos, if not beside it.")]
Spans = Annotated[Path | None, _file(metavar="FILE", help="For nextgqa: gsub_*.json.")]
Names = Annotated[Path | None, _file(metavar="FILE", help="For nextgqa: map_vid_vidorID.json.")]
Limit = Annotated[int | None, _file(metavar="N", min=1, help="Only the first N questions.")]

Predictions = Annotated[
    Path | None,
    _output(
        metavar="FILE", dir_okay=False, help="Keep every prediction; go on where an earlier run stopped."
    ),
]
AsJson = Annotated[bool, _output("--json", help="Every figure, as one JSON object.")]
AsMarkdown = Annotated[bool, _output("--markdown", help="The tables in Markdown.")]


def evaluate(
    what: What,
    checkpoint: Checkpoint = None,
    base: Base = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    without_planner: WithoutPlanner = False,
    without_verifier: WithoutVerifier = False,
    single_pass: SinglePass = False,
    min_answer_seconds: MinAnswerSeconds = None,
    ablations: Ablations = False,
    compare: Compare = None,
    baselines: Baselines = True,
    clips: Clips = 500,
    held_out_clips: HeldOutClips = 100,
    split: ClipSplit = "test",
    first: First = 0,
    workdir: Workdir = Path(SCENES),
    form: Form = "jsonl",
    videos: Videos = None,
    spans: Spans = None,
    names: Names = None,
    limit: Limit = None,
    predictions: Predictions = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Measure planner, grounding and answers, with 95 % intervals and baselines.

    \b
    videomind evaluate scenes --clips 40
    videomind evaluate scenes --ablations --compare "one LoRA=joint" --markdown
    videomind evaluate scenes --compare "four models=planner,grounder,verifier,answerer"
    videomind evaluate questions.jsonl --predictions predictions.jsonl
    videomind evaluate charades_sta_test.txt --format charades-sta --videos charades

    A line of a jsonl file, of which only video and question are required:
    {"video": "yard.mp4", "question": "Who opens the gate?", "spans": [[12, 15.5]],
    "options": ["a guard", "nobody"], "answer": "a guard", "mode": "ground-answer"}

    A kept prediction stands as long as question, weights and settings are the same. After a change to
    this program begin a new file.
    """
    if as_json and as_markdown:
        raise typer.BadParameter("choose one of --json and --markdown", param_hint="--markdown")
    others = _named_folders(compare or [])
    from vm.evaluation.contest import Contest

    contest = Contest(
        checkpoint=choose_checkpoint(checkpoint, base, remark),
        base=base,
        device=device,
        dtype=dtype,
        planner=not without_planner,
        verifier=not without_verifier,
        ablations=ablations,
        baselines=baselines,
        others=others,
        chain=ChainSettings(
            window=None if single_pass else _DEFAULTS.window, min_answer_seconds=min_answer_seconds
        ),
    )
    contest.check()
    if what == SCENES:
        samples = _draw_scenes(split, first, clips, held_out_clips, workdir)
    else:
        path = Path(what)
        samples = read_annotations(path, form, videos or path.parent, spans, names)[:limit]
    cgbench = what != SCENES and form == "cgbench"
    _show(_measure(contest, samples, predictions, cgbench), cgbench, as_json, as_markdown)


def sample_clips(
    folder: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Made if need be.")],
    clips: Annotated[int, typer.Option(metavar="N", min=1, help="How many clips.")] = 3,
    first: Annotated[int, typer.Option(metavar="N", min=0, help="How many clips to leave out.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One line of truth per clip, as JSON.")] = False,
) -> None:
    """Write clips of the synthetic world to try things on, and DIR/truth.jsonl with a question about each.

    \b
    videomind sample-clips samples
    videomind run --annotations samples/truth.jsonl
    videomind evaluate samples/truth.jsonl

    The clips are of the test split, on which nothing was trained, and the same
    every time. The questions are in turn for a moment and an answer, for a
    moment only, and for an answer only. A clip that is there is not drawn again.
    """
    from vm.evaluation.scene_samples import one_of_each

    with progress() as report:
        samples = one_of_each(clips, first, folder, report)
    write_annotations(folder / TRUTH, samples)
    for sample in samples:
        if as_json:
            print_json(json.dumps(annotation(sample, sample.video), ensure_ascii=False))
        else:
            typer.echo(f"{plain(sample.video)}  {clock(sample.duration or 0)}  {sample.question}")
    if not as_json:
        typer.echo(plain(str(folder / TRUTH)))


def _named_folders(given: Sequence[str]) -> dict[str, list[Path]]:
    from vm.evaluation.contest import RESERVED_NAMES

    named: dict[str, list[Path]] = {}
    for text in given:
        name, _, rest = text.partition("=")
        folders = [Path(folder) for folder in rest.split(",") if folder]
        if not (name and folders):
            raise typer.BadParameter(f"{text!r} is not NAME=DIR", param_hint="--compare")
        if name in named or name in RESERVED_NAMES:
            raise typer.BadParameter(
                f"there is a {name!r} already; choose another name", param_hint="--compare"
            )
        named[name] = folders
    return named


def _draw_scenes(
    split: Literal["test", "validation"], first: int, clips: int, held_out_clips: int, workdir: Path
) -> list[Sample]:
    from vm.evaluation.scene_samples import scene_samples

    with progress() as report:
        return scene_samples(split, first, clips, held_out_clips, workdir, report)


def _measure(contest: Contest, samples: Sequence[Sample], predictions: Path | None, cgbench: bool) -> Report:
    from vm.evaluation.contest import hold
    from vm.evaluation.journal import Journal
    from vm.evaluation.metrics import CGBENCH_FIGURES, FIGURES
    from vm.evaluation.report import make_report

    with Journal(predictions) as journal:
        answers = hold(contest, samples, journal)
    return make_report(samples, answers, CGBENCH_FIGURES if cgbench else FIGURES)


def _show(report: Report, cgbench: bool, as_json: bool, as_markdown: bool) -> None:
    from vm.evaluation.metrics import CGBENCH_FIGURES
    from vm.evaluation.tables import HEADLINES, make_tables, print_report, to_markdown

    tables = make_tables(report, [*CGBENCH_FIGURES] if cgbench else HEADLINES)
    if as_json:
        print_json(json.dumps(report.to_dict(), ensure_ascii=False))
    elif as_markdown:
        print_json(to_markdown(report, tables))
    else:
        print_report(report, tables, Console())
