import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vm.training.recipe import Recipe
from vm.training.start import LoraSettings
from vm.training.trainer import TrainSettings

Rows = Callable[[list[dict[str, Any]]], Path]
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="session")
def base(miniature: Path) -> Path:
    """Its tokenizer does not know the three tokens VideoMind adds."""
    return miniature.parent / "base"


@pytest.fixture(scope="session")
def portrait_video(miniature: Path) -> Path:
    """Nine seconds."""
    return miniature.parent / "videos" / "portrait9s.mp4"


@pytest.fixture
def rows_file(tmp_path: Path) -> Rows:
    """Write rows, and get the file."""

    def write(rows: list[dict[str, Any]]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def recipe(tmp_path: Path, base: Path, miniature: Path, rows_file: Rows) -> MakeRecipe:
    """A recipe for the miniature over the given rows; other fields by name."""

    def make(role: str, rows: list[dict[str, Any]], **fields: Any) -> Recipe:
        training = {"accumulation": 1, "batch_size": 4, "learning_rate": 1e-2, "save_every": 10**6}
        training |= {
            field: fields.pop(field) for field in TrainSettings.__dataclass_fields__ if field in fields
        }
        made = Recipe(
            role=role,
            base=base,
            data=rows_file(rows),
            out=tmp_path / "out",
            run=tmp_path / f"{role}.run",
            roles=miniature / "roles.json",
            lora=LoraSettings(8, 16, 0.0),
            training=TrainSettings(**training),
            device="cpu",
        )
        return replace(made, **fields)

    return make
