import json
from pathlib import Path

import pytest

from vm.errors import CheckpointError, CheckpointNotFound, InvalidRoles
from vm.import_checkpoint import import_constants

# Of the published file's form: implicit concatenation, doubled braces, one prompt an f-string.
CONSTANTS = """
IGNORED = -100

REG_TOKEN = '<|r|>'

SEG_S_TOKEN = '<|from|>'
SEG_E_TOKEN = '<|to|>'

PLANNER_PROMPT = (
    'Plan it.\\n'
    'Like so: [{{"type": "grounder"}}]. '
    "The question is '{}'.")

GROUNDER_PROMPT = ('Find ' + "'{}'.")

VERIFIER_PROMPT = (
    'Look closely. '
    f'Is what stands between {SEG_S_TOKEN} and {SEG_E_TOKEN} this: '
    "'{}'? {{yes or no}}")
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "checkpoint").mkdir()
    return tmp_path / "checkpoint"


def imported(checkpoint: Path, source: str) -> Path:
    constants = checkpoint.parent / "constants.py"
    constants.write_text(source, encoding="utf-8")
    return import_constants(checkpoint, constants)


def test_the_publishers_constants_become_roles(checkpoint: Path) -> None:
    written = imported(checkpoint, CONSTANTS)
    assert written == checkpoint / "roles.json"
    assert json.loads(written.read_text(encoding="utf-8")) == {
        "special_tokens": {"reg": "<|r|>", "seg_start": "<|from|>", "seg_end": "<|to|>"},
        "roles": {
            "planner": {"prompt": 'Plan it.\nLike so: [{{"type": "grounder"}}]. The question is \'{}\'.'},
            "grounder": {"prompt": "Find '{}'."},
            "verifier": {
                "prompt": "Look closely. Is what stands between <|from|> and <|to|> this: '{}'? {{yes or no}}"
            },
        },
    }
    assert [file.name for file in checkpoint.iterdir()] == ["roles.json"]


def test_nothing_in_the_file_is_run(checkpoint: Path) -> None:
    trap = checkpoint.parent / "trap"
    imported(checkpoint, f"import pathlib\npathlib.Path({str(trap)!r}).touch()\n{CONSTANTS}")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'<|r|>'", "open('x').read()", "line 4: REG_TOKEN must be plain text, but holds .open"),
        ("'<|r|>'", "7", "line 4: REG_TOKEN must be plain text"),
        ("'<|r|>'", "'a b'", "line 4: REG_TOKEN must be a token"),
        ("'<|r|>'", "''", "line 4: REG_TOKEN must be a token"),
        ("'<|r|>'", "'\\ud800'", "line 4: REG_TOKEN holds half a character"),
        ("'<|r|>'", "'r' * 10", "line 4: REG_TOKEN must be plain text"),
        ("{SEG_S_TOKEN}", "{SEG_S_TOKEN!r}", "VERIFIER_PROMPT must be plain text"),
        ("{SEG_S_TOKEN}", "{SEG_S_TOKEN:>9}", "VERIFIER_PROMPT must be plain text"),
        ("{SEG_S_TOKEN}", "{print(1)}", "VERIFIER_PROMPT must be plain text"),
        ("{SEG_S_TOKEN}", "{UNKNOWN}", "VERIFIER_PROMPT must be plain text, but holds .{UNKNOWN}"),
        ("'{}'.\")\n\nVER", "'{{}}'.\")\n\nVER", "GROUNDER_PROMPT must have exactly one"),
        ("'{}'.\")\n\nVER", "'{} {}'.\")\n\nVER", "GROUNDER_PROMPT must have exactly one"),
        ("'{}'.\")\n\nVER", "'{0.__class__}'.\")\n\nVER", "GROUNDER_PROMPT must have exactly one"),
        ("'{}'.\")\n\nVER", "'{'.\")\n\nVER", "GROUNDER_PROMPT is no template"),
        (
            "SEG_E_TOKEN = '<|to|>'",
            "SEG_E_TOKEN = SEG_E_TOKEN = 'x'",
            "line 7: SEG_E_TOKEN must be assigned once",
        ),
        ("GROUNDER_PROMPT =", "REG_TOKEN = 'x'\nGROUNDER_PROMPT =", "line 14: REG_TOKEN is assigned twice"),
        (
            "SEG_E_TOKEN = '<|to|>'",
            "SEG_E_TOKEN = 'x'\nif 1:\n  SEG_E_TOKEN += 'x'",
            "line 9: SEG_E_TOKEN must",
        ),
        ("REG_TOKEN = '<|r|>'", "", "has no REG_TOKEN"),
        ("IGNORED = -100", "IGNORED =", "line 2: not Python"),
        ("IGNORED = -100", "IGNORED = " + "-" * 100_000 + "1", "too deeply nested"),
        ("'<|r|>'", "+".join(["'r'"] * 100_000), "too deeply nested"),
        ("{SEG_S_TOKEN}", "{PLANNER_PROMPT}" * 2000, "longer than 100000 characters"),
    ],
)
def test_anything_but_constants_is_refused(checkpoint: Path, old: str, new: str, message: str) -> None:
    assert CONSTANTS.count(old) == 1
    with pytest.raises(InvalidRoles, match=message):
        imported(checkpoint, CONSTANTS.replace(old, new))
    assert list(checkpoint.iterdir()) == []


def test_a_missing_constants_file_is_refused(checkpoint: Path) -> None:
    with pytest.raises(InvalidRoles, match=r"nowhere\.py: no such file"):
        import_constants(checkpoint, checkpoint / "nowhere.py")


def test_roles_are_only_replaced_when_forced(checkpoint: Path) -> None:
    imported(checkpoint, CONSTANTS)
    with pytest.raises(CheckpointError, match="--force"):
        imported(checkpoint, CONSTANTS)
    changed = checkpoint.parent / "constants.py"
    changed.write_text(CONSTANTS.replace("Find ", "Seek "), encoding="utf-8")
    written = import_constants(checkpoint, changed, force=True)
    assert json.loads(written.read_text())["roles"]["grounder"]["prompt"] == "Seek '{}'."


def test_a_checkpoint_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="nowhere: no such folder"):
        import_constants(tmp_path / "nowhere", tmp_path / "constants.py")
