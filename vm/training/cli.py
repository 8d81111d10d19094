"""The commands `videomind train` and `videomind make-verifier-data`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vm.config import ChainSettings
from vm.render import plain
from vm.terminal import PROGRAM, progress

if TYPE_CHECKING:  # these take seconds to import, which --help and wrong usage need not wait for
    from vm.training.rows import Row

_files = partial(typer.Option, rich_help_panel="Files")
_learnt = partial(typer.Option, rich_help_panel="What is trained")
_pace = partial(typer.Option, rich_help_panel="How long and how fast")
_machine = partial(typer.Option, rich_help_panel="On what")

Role = Annotated[
    str, typer.Argument(metavar="ROLE", help="planner, grounder, verifier, answerer, or a name of your own.")
]
Base = Annotated[Path, _files(metavar="DIR", exists=True, file_okay=False, help="The Qwen2-VL base.")]
Data = Annotated[Path, _files(metavar="FILE.jsonl", help="What is to be learnt, a JSON object per line.")]
Out = Annotated[Path, _files(metavar="DIR", file_okay=False, help="The checkpoint the role goes into.")]
Run = Annotated[
    Path | None,
    _files(metavar="DIR", file_okay=False, help="Keeps what a run goes on from, and metrics; OUT.ROLE.run."),
]
Roles = Annotated[
    Path | None, _files(metavar="FILE", help="A roles.json with the prompts of a new checkpoint.")
]
Prompt = Annotated[
    str | None, _files(metavar="TEXT", help="The role's prompt, with {} where the question goes.")
]
Start = Annotated[
    Path | None,
    _files("--from", metavar="DIR", help="A checkpoint whose adapter of the role is gone on with."),
]
BadRows = Annotated[Literal["fail", "skip"], _files(help="What to do about rows that cannot be used.")]
Storage = Annotated[Literal["float16", "float32"], _files(help="How the weights are stored.")]

Rank = Annotated[int, _learnt(metavar="N", min=1, help="LoRA's rank.")]
Alpha = Annotated[float, _learnt(metavar="X", help="LoRA's alpha; its update counts alpha / rank.")]
Dropout = Annotated[float, _learnt(metavar="X", min=0, max=0.99, help="LoRA's dropout.")]
TrainEmbeddings = Annotated[
    Literal["none", "new", "all"] | None,
    _learnt(
        help="Embeddings and head of the role's own: none, the added tokens' rows, or all. "
        "As published: all for grounder and verifier, else none."
    ),
]
DecoderWidth = Annotated[int, _learnt(metavar="N", min=8, help="Of a new timestamp decoder.")]
Full = Annotated[bool, _learnt("--full", help="The whole language model; OUT gets a base of its own.")]

Epochs = Annotated[float, _pace(metavar="X", help="Passes over the data.")]
MaxSteps = Annotated[int | None, _pace(metavar="N", min=1, help="Steps, instead of epochs.")]
BatchSize = Annotated[int, _pace(metavar="N", min=1, help="Video views per device at once.")]
Accumulate = Annotated[int, _pace(metavar="N", min=1, help="Batches per step.")]
PackTokens = Annotated[
    int, _pace(metavar="N", min=1, help="Of questions and replies read behind one video at once, at most.")
]
LearningRate = Annotated[
    float | None, _pace(metavar="X", help="Published: planner 2e-5, verifier 5e-5, grounder 1e-4.")
]
DecoderLearningRate = Annotated[
    float | None, _pace(metavar="X", help="Of decoder, embeddings and head, if it differs.")
]
WeightDecay = Annotated[float, _pace(metavar="X", min=0, help="Of matrices, embeddings apart.")]
Warmup = Annotated[float, _pace(metavar="X", min=0, max=0.99, help="Fraction of steps before the full rate.")]
Seed = Annotated[int, _pace(metavar="N", min=0, help="Decides the order of data, initial weights, dropout.")]
LogEvery = Annotated[int, _pace(metavar="N", min=1, help="Steps between lines of metrics.")]
SaveEvery = Annotated[int, _pace(metavar="N", min=1, help="Steps between checkpoints to go on from.")]
Keep = Annotated[int, _pace(metavar="N", min=1, help="How many of those are kept.")]

Device = Annotated[str, _machine(envvar="VIDEOMIND_DEVICE", help="auto, cpu or cuda.")]
Dtype = Annotated[
    str, _machine(envvar="VIDEOMIND_DTYPE", help="Of the frozen base: auto, float32, bfloat16 or float16.")
]
GradientCheckpointing = Annotated[
    bool, _machine("--gradient-checkpointing", help="Less memory for a third more time.")
]
FeatureMemory = Annotated[float, _machine(metavar="GB", min=0, help="Vision features kept in memory.")]
FeatureDisk = Annotated[float, _machine(metavar="GB", min=0, help="Vision features kept in the run folder.")]

_RATES = {"planner": 2e-5, "grounder": 1e-4, "verifier": 5e-5}
_OTHER_RATE = 2e-5


def train(
    role: Role,
    base: Base,
    data: Data,
    out: Out,
    run: Run = None,
    roles: Roles = None,
    prompt: Prompt = None,
    start: Start = None,
    bad_rows: BadRows = "fail",
    storage: Storage = "float16",
    rank: Rank = 64,
    alpha: Alpha = 64.0,
    dropout: Dropout = 0.1,
    train_embeddings: TrainEmbeddings = None,
    decoder_width: DecoderWidth = 256,
    full: Full = False,
    epochs: Epochs = 1.0,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = 1,
    accumulate: Accumulate = 4,
    pack_tokens: PackTokens = 2048,
    learning_rate: LearningRate = None,
    decoder_learning_rate: DecoderLearningRate = None,
    weight_decay: WeightDecay = 0.0,
    warmup: Warmup = 0.03,
    seed: Seed = 0,
    log_every: LogEvery = 10,
    save_every: SaveEvery = 500,
    keep: Keep = 2,
    device: Device = "auto",
    dtype: Dtype = "auto",
    gradient_checkpointing: GradientCheckpointing = False,
    feature_memory: FeatureMemory = 2.0,
    feature_disk: FeatureDisk = 50.0,
) -> None:
    """Train a role, or go on where a run was interrupted, into a checkpoint that loads at once.

    \b
    videomind train grounder --base Qwen2-VL-2B --data moments.jsonl --out mine --roles roles.json
    videomind train narrator --base Qwen2-VL-2B --data stories.jsonl --out mine --prompt "Tell it: '{}'"
    torchrun --nproc-per-node 4 -m vm.cli train grounder …

    \b
    Lines, by role (times in seconds; videos relative to the file):
    planner   {"video": "a.mp4", "question": "…", "plan": "ground-answer", "query": "…"}
    grounder  {"video": "a.mp4", "query": "…", "spans": [[3.5, 6]]}
    verifier  {"video": "a.mp4", "query": "…", "candidate": [3, 7], "label": "Yes"}
    answerer  {"video": "a.mp4", "question": "…", "answer": "…", "options": ["…", "…"]}
    others    {"video": "a.mp4", "question": "…", "answer": "…"}

    plan is ground-answer, ground or answer. What may be left out: query, options, "duration" (times are
    checked against it), and for grounder, answerer and others "segment", the stretch that is shown.
    """
    from vm.training.recipe import Recipe, train_role
    from vm.training.start import LoraSettings
    from vm.training.trainer import TrainSettings

    recipe = Recipe(
        role=role,
        base=base,
        data=data,
        out=out,
        run=run or out.with_name(f"{out.name}.{role}.run"),
        roles=roles,
        prompt=prompt,
        start=start,
        lora=LoraSettings(rank, alpha, dropout),
        embeddings=train_embeddings,
        decoder_width=decoder_width,
        full=full,
        training=TrainSettings(
            epochs=epochs,
            max_steps=max_steps,
            batch_size=batch_size,
            accumulation=accumulate,
            learning_rate=_RATES.get(role, _OTHER_RATE) if learning_rate is None else learning_rate,
            decoder_learning_rate=decoder_learning_rate,
            weight_decay=weight_decay,
            warmup=warmup,
            gradient_checkpointing=gradient_checkpointing,
            log_every=log_every,
            save_every=save_every,
            keep=keep,
            seed=seed,
        ),
        bad_rows=bad_rows,
        pack_tokens=pack_tokens,
        storage=storage,
        device=device,
        dtype=dtype,
        memory_bytes=round(feature_memory * 2**30),
        disk_bytes=round(feature_disk * 2**30),
    )
    try:
        written = train_role(recipe, _tell)
    except KeyboardInterrupt:
        _tell(f"interrupted; the same command goes on from the last checkpoint in {recipe.run}")
        raise
    where = "" if full else f" --base {plain(str(base))}"
    if written:
        typer.echo(f"{plain(str(out))}  {role}  (ask it with --checkpoint {plain(str(out))}{where})")


def make_verifier_data(
    checkpoint: Annotated[
        Path, typer.Option(metavar="DIR", envvar="VIDEOMIND_CHECKPOINT", help="With the grounder.")
    ],
    data: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Grounder rows: video, query, spans.")],
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", dir_okay=False, help="The file to write.")],
    base: Annotated[
        str | None, typer.Option(metavar="DIR", envvar="VIDEOMIND_BASE", help="If not beside the checkpoint.")
    ] = None,
    candidates: Annotated[int, typer.Option(metavar="N", min=1, help="How many spans per query.")] = 5,
    bad_rows: BadRows = "fail",
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Let a grounder propose spans, and label them Yes or No by IoU ≥ 0.5: data to train a verifier on.

    \b
    videomind make-verifier-data --checkpoint mine --data moments.jsonl --out judged.jsonl
    videomind train verifier --base Qwen2-VL-2B --data judged.jsonl --out mine

    An interrupted run is gone on with by the same command; the file appears when it is whole.
    """
    from vm.mind import VideoMind
    from vm.training.verifier_data import make_verifier_data as make

    rows = _rows(data, bad_rows)
    mind = VideoMind.load(checkpoint, base, device, dtype)
    with progress() as show:
        positive, negative = make(mind, rows, out, ChainSettings(candidates=candidates), _tell, show)
    typer.echo(f"{plain(str(out))}  {positive} Yes  {negative} No")


def _rows(data: Path, bad_rows: Literal["fail", "skip"]) -> list[Row]:
    from vm.training.rows import usable_rows

    return usable_rows(data, "grounder", bad_rows, _tell)


def _tell(line: str) -> None:
    typer.echo(f"{PROGRAM}: {plain(line)}", err=True)
