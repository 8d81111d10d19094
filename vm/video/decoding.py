"""Decodes the frames on screen at given ticks, and as little else as possible. Knows no pixels."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from av.video.frame import VideoFrame

from vm.video.source import Source, VideoPacket
from vm.video.timeline import Timeline

# h264 and hevc reorder at most 16 frames; a packet's neighbours in presentation order are
# therefore among its neighbours in the file.
_REACH = 32

# Only these decoders were found to lose nothing when told to skip what no frame refers to.
_SKIPPING = frozenset({"h264", "hevc"})

# Some containers seek by guesswork and land too late: seconds to aim earlier.
_STEPS_BACK = (0.0, 0.5, 2.0, 8.0, 32.0)


@dataclass(frozen=True)
class Run:
    """Ticks (ascending, each once) to be shown by decoding on from one seek point, `keys[key]`."""

    key: int
    targets: tuple[int, ...]


@dataclass(frozen=True)
class Shown:
    """The frame on screen at `target`; `exact` unless a damaged one had to be replaced."""

    target: int
    pts: int
    frame: VideoFrame
    exact: bool


def plan_runs(targets: Iterable[int], keys: tuple[int, ...]) -> list[Run]:
    """Targets (ascending ticks) grouped by the last seek point at or before them."""
    grouped: dict[int, list[int]] = {}
    for target in targets:
        grouped.setdefault(max(0, bisect_right(keys, target) - 1), []).append(target)
    return [Run(key, tuple(run)) for key, run in grouped.items()]


def show(source: Source, timeline: Timeline, run: Run) -> Iterator[Shown]:
    """The frames of one run, in no particular order.

    A frame that does not decode is replaced by the last good one before it, looked for back to the
    seek point before the run's; where there is none either, its target is left out.
    """
    missing = set(run.targets)
    for shown in () if timeline.counted else _pick(source, timeline, run):
        missing.discard(shown.target)
        yield shown
    if missing:
        yield from _latest(frames_from(source, timeline, max(0, run.key - 1)), sorted(missing))


def frames_from(source: Source, timeline: Timeline, key: int) -> Iterator[tuple[int, VideoFrame]]:
    """All frames from the seek point `keys[key]` on, with the timeline's tick of each."""
    if not timeline.counted:
        frames = _decode_all(source, packets_from(source, timeline, key))
        return ((frame.pts, frame) for frame in frames if frame.pts is not None)
    if not source.fresh:
        source.reopen()
    return enumerate(_decode_all(source, source.packets()))


def mark(packets: Iterable[VideoPacket], targets: tuple[int, ...]) -> Iterator[tuple[VideoPacket, list[int]]]:
    """Each packet with the targets at which its frame is on screen, up to the last that is needed.

    Args:
        packets: in decoding order, with timestamps.
        targets: ascending ticks.
    """
    left = len(targets)
    ordered: list[int] = []
    behind: deque[int] = deque()
    for packet, ahead in _looking_ahead(packets, targets[-1]):
        for pts in ahead:
            insort(ordered, pts)
        pts = packet.pts or 0
        following = bisect_right(ordered, pts)
        end = bisect_left(targets, ordered[following]) if following < len(ordered) else len(targets)
        shown = list(targets[bisect_left(targets, pts) : end])
        yield packet, shown
        left -= len(shown)
        if left <= 0:
            return
        behind.append(pts)
        if len(behind) > _REACH:
            del ordered[bisect_left(ordered, behind.popleft())]


def _looking_ahead(packets: Iterable[VideoPacket], last: int) -> Iterator[tuple[VideoPacket, list[int]]]:
    """Each packet with the timestamps that come into view with it, `_REACH` packets ahead."""
    view: deque[VideoPacket] = deque()
    new: list[int] = []
    for packet in packets:
        if packet.pts is None:
            continue
        view.append(packet)
        new.append(packet.pts)
        # What is decoded later is shown later, so nothing from here on matters.
        if packet.dts is not None and packet.dts > last:
            break
        if len(view) > _REACH:
            yield view.popleft(), new
            new = []
    for packet in view:
        yield packet, new
        new = []


def _pick(source: Source, timeline: Timeline, run: Run) -> Iterator[Shown]:
    """Feeds the run's packets, letting the decoder skip what neither is shown nor referred to."""
    decoder = source.decoder
    skips = decoder.name in _SKIPPING
    waiting: dict[int, list[int]] = {}
    for packet, targets in mark(_reaching(source, timeline, run), run.targets):
        if targets:
            waiting[packet.pts or 0] = targets
        decoder.skip_frame = "NONREF" if skips and not targets else "DEFAULT"
        yield from _match(source.decode(packet), waiting)
    yield from _match(source.decode(None), waiting)


def _match(frames: list[VideoFrame], waiting: dict[int, list[int]]) -> Iterator[Shown]:
    for frame in frames:
        pts = frame.pts
        if pts is not None and pts in waiting:
            for target in waiting.pop(pts):
                yield Shown(target, pts, frame, exact=not frame.is_corrupt)


def _reaching(source: Source, timeline: Timeline, run: Run) -> Iterator[VideoPacket]:
    """Packets from the last seek point whose picture is not after the run's first target."""
    for key in range(run.key, -1, -1):
        packets = packets_from(source, timeline, key)
        first = next(packets, None)
        if first is None:
            return
        if key == 0 or (first.pts is not None and first.pts <= run.targets[0]):
            yield from chain([first], packets)
            return


def packets_from(source: Source, timeline: Timeline, key: int) -> Iterator[VideoPacket]:
    """Packets in decoding order from the seek point `keys[key]` on."""
    aim = timeline.keys[key]
    by_pts = timeline.pts is not None
    for back in _STEPS_BACK:
        if not (source.fresh and key == 0) and not source.seek(aim - int(back / timeline.time_base)):
            break
        packets = source.packets()
        for packet in packets:
            stamp = packet.pts if by_pts else packet.dts
            if stamp is not None and stamp >= aim:
                break
        else:
            continue
        if stamp == aim:
            return chain([packet], packets)
    source.reopen()
    return source.packets()


def _decode_all(source: Source, packets: Iterable[VideoPacket]) -> Iterator[VideoFrame]:
    source.decoder.skip_frame = "DEFAULT"
    for packet in packets:
        yield from source.decode(packet)
    yield from source.decode(None)


def _latest(frames: Iterator[tuple[int, VideoFrame]], targets: list[int]) -> Iterator[Shown]:
    """What a player shows at each target: the last frame that decoded at or before it."""
    held: tuple[int, VideoFrame] | None = None
    waiting = deque(targets)
    for pts, frame in frames:
        while waiting and pts > waiting[0]:
            target = waiting.popleft()
            if held:
                yield _held(target, held)
        if not waiting:
            return
        held = (pts, frame)
    while held and waiting:
        yield _held(waiting.popleft(), held)


def _held(target: int, held: tuple[int, VideoFrame]) -> Shown:
    pts, frame = held
    return Shown(target, pts, frame, exact=pts == target and not frame.is_corrupt)
