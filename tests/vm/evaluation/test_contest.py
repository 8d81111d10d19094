import shutil
from pathlib import Path

import pytest

from tests.vm.evaluation.made import sample
from vm.errors import CheckpointError, CheckpointNotFound
from vm.evaluation.contest import Contest, hold
from vm.evaluation.journal import Journal


@pytest.fixture
def apart(tmp_path: Path, miniature: Path) -> list[Path]:
    """The miniature as three checkpoints of one role each, on bases of their own."""
    roles = ("planner", "grounder", "verifier")
    for role in roles:
        others = shutil.ignore_patterns(*(other for other in roles if other != role))
        shutil.copytree(miniature, tmp_path / role, ignore=others)
        shutil.copytree(miniature.parent / "base", tmp_path / role / "base")
    return [tmp_path / role for role in roles]


@pytest.mark.parametrize(
    ("planner", "verifier", "names"),
    [
        (True, True, ["chain", "without verifier", "without planner"]),
        (False, True, ["chain", "without verifier"]),
        (True, False, ["chain", "without planner"]),
        (False, False, ["chain"]),
    ],
)
def test_an_ablation_takes_away_what_is_there(planner: bool, verifier: bool, names: list[str]) -> None:
    contest = Contest(Path("x"), planner=planner, verifier=verifier, ablations=True)
    assert [system.name for system in contest.systems] == names
    assert (contest.systems[0].planner, contest.systems[0].verifier) == (planner, verifier)
    for system in contest.systems[1:]:
        assert system.planner is (planner and system.name != "without planner")
        assert system.verifier is (verifier and system.name != "without verifier")
    assert len(Contest(Path("x")).systems) == 1


def test_other_checkpoints_run_as_the_first_one_does(miniature: Path, short_video: Path) -> None:
    contest = Contest(
        *(miniature, None, "cpu"),
        planner=False,
        verifier=False,
        baselines=False,
        others={"same": [miniature]},
    )
    answers = hold(contest, [sample(str(short_video), "Why?")], Journal())
    assert list(answers) == ["chain", "same"]
    (first,), (same,) = answers.values()
    assert not first.planned
    assert (first.spans, first.key) == (same.spans, same.key)


def test_several_checkpoints_under_one_name_each_bring_their_roles(
    miniature: Path, apart: list[Path], short_video: Path
) -> None:
    contest = Contest(miniature, None, "cpu", baselines=False, others={"three models": apart})
    contest.check()
    asked = [sample(str(short_video), "Why did the man appear?", options=("a", "b"), answer="a")]
    (chain,), (separate,) = hold(contest, asked, Journal()).values()
    assert separate.system == "three models"
    assert separate.fingerprint != chain.fingerprint
    assert (separate.spans, separate.query, separate.reply) == (chain.spans, chain.query, chain.reply)


def test_a_checkpoint_beside_runs_on_its_own_base_where_it_has_one(
    miniature: Path, apart: list[Path]
) -> None:
    given = str(miniature.parent / "base")
    contest = Contest(miniature, given, others={"own": [apart[0]], "shared": [miniature.parent]})
    assert contest.base_of(miniature) == given
    assert contest.base_of(apart[0]) is None
    assert contest.base_of(miniature.parent / "checkpoint2") == given


def test_a_bad_checkpoint_is_found_out_before_anything_runs(miniature: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound):
        Contest(tmp_path / "gone").check()
    with pytest.raises(CheckpointError):
        Contest(miniature, others={"bad": [miniature, tmp_path]}).check()
