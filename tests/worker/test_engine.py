import pytest

import vm
from vm.errors import CheckpointNotFound
from worker import engine
from worker.settings import Settings, using


def test_without_a_checkpoint_the_message_says_how_to_name_one():
    with using(Settings("sqlite://")), pytest.raises(CheckpointNotFound, match="VIDEOMIND_CHECKPOINT"):
        engine.loaded()


def test_the_model_is_loaded_once_per_process(monkeypatch: pytest.MonkeyPatch):
    loads = []

    class Counted:
        @classmethod
        def load(cls, checkpoint, **how):
            loads.append((checkpoint, how))
            return cls()

    monkeypatch.setitem(vars(vm), "VideoMind", Counted)
    with using(Settings("sqlite://", checkpoint="here", base="there", device="cpu", dtype="float32")):
        assert engine.loaded() is engine.loaded()
    engine._load.cache_clear()
    assert loads == [("here", {"base": "there", "device": "cpu", "dtype": "float32"})]
