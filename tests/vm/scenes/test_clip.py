import itertools

import numpy as np
import pytest

from vm.scenes.clip import Clip, clips
from vm.scenes.vocabulary import SEEDS
from vm.video import open_video


def test_the_splits_share_no_seed() -> None:
    for one, other in itertools.combinations(SEEDS.values(), 2):
        assert one.stop <= other.start or other.stop <= one.start


def test_a_seed_decides_the_clip_to_the_last_pixel() -> None:
    one, other = Clip(7), Clip(7)

    assert one.questions == other.questions
    assert np.array_equal(one.frame(30), other.frame(30))


def test_another_seed_gives_another_clip() -> None:
    assert Clip(7).questions != Clip(8).questions


def test_clips_last_ten_to_a_hundred_and_fifty_seconds_and_vary() -> None:
    some = list(clips("validation", 80))

    assert all(9.9 <= clip.duration <= 150.1 for clip in some)
    assert max(clip.duration for clip in some) > 4 * min(clip.duration for clip in some)
    assert len({(clip.look.width, clip.look.height) for clip in some}) > 3
    assert len({clip.frame_rate for clip in some}) > 3


def test_a_given_length_is_kept() -> None:
    assert Clip(5, False, 20.0).duration == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_a_written_clip_is_a_video_of_its_frames(tmp_path, seed) -> None:
    clip = Clip(SEEDS["test"][seed], None, 10.0)

    with open_video(clip.write(tmp_path)) as video:
        facts = video.info
        shown = video.read([0, 40], (clip.look.height // 28 * 28, clip.look.width // 28 * 28)).pixels

    assert facts.duration == pytest.approx(clip.duration, abs=1 / clip.frame_rate)
    assert (facts.width, facts.height) == (clip.look.width, clip.look.height)
    for pixels, number in zip(shown, (0, 40), strict=True):
        assert abs(float(pixels.float().mean()) - clip.frame(number).mean()) < 6


def test_a_clip_that_is_there_is_not_written_again(tmp_path) -> None:
    clip = Clip(SEEDS["test"][0], None, 10.0)
    path = clip.write(tmp_path)
    path.write_bytes(b"kept")

    assert clip.write(tmp_path).read_bytes() == b"kept"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_clip_leaves_nothing(tmp_path, monkeypatch) -> None:
    def interrupted(clip: Clip, number: int) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(Clip, "frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Clip(SEEDS["test"][0], None, 10.0).write(tmp_path)

    assert list(tmp_path.iterdir()) == []
