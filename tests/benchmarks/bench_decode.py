"""Times sampling from a long file against decord and against the least decoding that is possible.

    python tests/benchmarks/bench_decode.py [repeats]

The file (20 minutes, 720p, 25 frames per second, H.264, a keyframe every 50 frames) is made once,
into build/benchmarks. All contestants are timed in turn, and the table shows medians. "Floor" is
two decoders that decode just the frames that must be, and convert nothing. Needs the extra `bench`;
without decord its column stays empty.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np

from vm.moments import Span
from vm.video import open_video

try:
    import decord
except ImportError:
    decord = None

CACHE = Path("build/benchmarks")
WIDTH, HEIGHT, RATE, GOP = 1280, 720, 25, 50
PART_SECONDS, PARTS = 120, 10
SIZE = (224, 392)  # height, width of what the model sees
BITS = 12
CELL = 40


def scene(number: int, noise: np.ndarray) -> np.ndarray:
    """RGB (HEIGHT, WIDTH, 3): drifting texture, with `number` in black and white cells on top."""
    image = np.roll(noise, (number * 3, number * 5), axis=(0, 1)).copy()
    for bit in range(BITS):
        image[:CELL, bit * CELL : (bit + 1) * CELL] = 235 if number >> bit & 1 else 20
    return image


def number_of(pixels: np.ndarray) -> int:
    """The number in an RGB picture (height, width, 3) of any scale."""
    scale = pixels.shape[1] / WIDTH
    row = int(CELL * scale / 2)
    return sum(int(pixels[row, int((bit + 0.5) * CELL * scale)].mean() > 128) << bit for bit in range(BITS))


def make_file() -> Path:
    """Encodes two minutes and repeats their packets, with times that run on, to twenty."""
    path = CACHE / f"long_{PARTS}x{PART_SECONDS}s_{HEIGHT}p.mp4"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.mp4")
    coarse = np.random.default_rng(0).integers(30, 220, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    noise = coarse.repeat(16, 0).repeat(16, 1)
    with av.open(str(unfinished), "w") as out:
        options = {
            "preset": "veryfast",
            "bf": "0",
            "g": str(GOP),
            "keyint_min": str(GOP),
            "sc_threshold": "0",
        }
        stream = out.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        packets = []
        for number in range(PART_SECONDS * RATE):
            packets += stream.encode(av.VideoFrame.from_ndarray(scene(number, noise), format="rgb24"))
        packets += stream.encode()
        for part in range(PARTS):
            for packet in packets:
                out.mux(_copy_of(packet, part * PART_SECONDS * RATE))
    return unfinished.rename(path)


def _copy_of(packet: av.Packet, shift: int) -> av.Packet:
    copy = av.Packet(bytes(packet))
    copy.stream, copy.time_base, copy.is_keyframe = packet.stream, packet.time_base, packet.is_keyframe
    ticks = round(shift / RATE / packet.time_base)
    copy.pts, copy.dts, copy.duration = packet.pts + ticks, packet.dts + ticks, packet.duration
    return copy


def ours(path: Path, indices: Sequence[int]) -> list[np.ndarray]:
    with open_video(path) as video:
        return list(video.read(indices, SIZE).pixels.permute(0, 2, 3, 1).numpy())


def decords(path: Path, indices: Sequence[int]) -> list[np.ndarray]:
    return list(decord.VideoReader(str(path), num_threads=0).get_batch(list(indices)).asnumpy())


def floor(path: Path, indices: Sequence[int]) -> None:
    """Decodes from each needed keyframe to the last frame needed after it, on two threads."""
    groups: dict[int, int] = {}
    for index in indices:
        groups[index // GOP * GOP] = index
    halves = (list(groups.items())[0::2], list(groups.items())[1::2])
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(lambda half: _decode_groups(path, half), halves))


def _decode_groups(path: Path, groups: list[tuple[int, int]]) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for start, last in groups:
            container.seek(int(start / RATE / stream.time_base), stream=stream)
            for count, packet in enumerate(container.demux(stream)):
                packet.decode()
                if count == last - start:
                    break


def median_seconds(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in seconds.items()}


def straight_through(path: Path, wanted: set[int]) -> dict[int, int]:
    """The number in each wanted frame, found by decoding the whole file."""
    found = {}
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                found[index] = number_of(frame.to_ndarray(format="rgb24"))
    return found


def main(repeats: int) -> None:
    path = make_file()
    with open_video(path) as video:
        cases = {
            "150 over the file": video.sample(None, 150 / video.info.duration, 150),
            "64 at 2 fps in a window": video.sample(Span(600.3, 632.3), 2.0, 64),
        }
    truth = straight_through(path, {index for indices in cases.values() for index in indices})
    print(f"{'case':26}{'ours s':>8}{'decord s':>10}{'floor s':>9}{'vs decord':>11}{'vs floor':>10}  right")
    for name, indices in cases.items():
        report(path, name, indices, truth, repeats)


def report(path: Path, name: str, indices: Sequence[int], truth: dict[int, int], repeats: int) -> None:
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(path, indices),
        "floor": lambda: floor(path, indices),
    }
    if decord:
        contestants["decord"] = lambda: decords(path, indices)
    right = sum(number_of(p) == truth[i] for p, i in zip(ours(path, indices), indices, strict=True))
    took = median_seconds(contestants, repeats)
    peer = took.get("decord", float("nan"))
    print(
        f"{name:26}{took['ours']:8.2f}{peer:10.2f}{took['floor']:9.2f}"
        f"{took['ours'] / peer:11.2f}{took['ours'] / took['floor']:10.2f}  {right} of {len(indices)}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
