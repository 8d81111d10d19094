from pathlib import Path

import pytest
from typer.testing import CliRunner

from vm.errors import TrainingError
from vm.training.tiny.steps import app


@pytest.mark.parametrize(
    ("arguments", "first"),
    [("bank", "tokenizer"), ("base", "tokenizer"), ("role planner", "bank"), ("role verifier", "bank")],
)
def test_a_step_out_of_order_names_the_one_to_run_first(tmp_path: Path, arguments: str, first: str) -> None:
    ended = CliRunner().invoke(app, [*arguments.split(), "--folder", str(tmp_path)])

    assert isinstance(ended.exception, TrainingError)
    assert repr(first) in str(ended.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_is_made_once(tmp_path: Path) -> None:
    made = [CliRunner().invoke(app, ["tokenizer", "--folder", str(tmp_path)]).exit_code]
    path = tmp_path / "tokenizer" / "tokenizer.json"
    path.write_text("kept")
    made.append(CliRunner().invoke(app, ["tokenizer", "--folder", str(tmp_path)]).exit_code)

    assert made == [0, 0]
    assert path.read_text() == "kept"
