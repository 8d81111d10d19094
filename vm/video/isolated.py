"""A video file read in a process of its own, so that one made to break the decoder breaks nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vm.closing import Closing
from vm.errors import DecoderCrashed, DecodeTimeout, UnsupportedMedia, VideoError
from vm.moments import Span
from vm.video.channel import OUT_OF_MEMORY, Channel
from vm.video.decoders import Decoder, Decoders
from vm.video.limits import Cage, MediaLimits, too_slow
from vm.video.reader import Frames, check_indices
from vm.video.replies import Opening, checked_opening, checked_times, checked_warnings, told_error
from vm.video.sampling import sample_indices

_SHARED = Decoders()
# A process whose end of the line is closed is dying; so long it may take.
_DYING_SECONDS = 1.0
# Bytes of a reply's header: of what is always in it, and for each frame's time.
_HEADER_BYTES, _TIME_BYTES = 1 << 20, 32
_MB = 1 << 20


class IsolatedReader(Closing):
    """An open video file, as `VideoReader`: the same frames, times, warnings and errors.

    It is read in a process with bounded memory and time; when that dies, reading again starts another.
    Only facts, texts and pixels come from there, and no more of them than were asked for.
    For one thread at a time; a context manager.

    Args:
        path: a local file.
        decoders: where its process comes from; None for those that this whole process shares.

    Attributes:
        info: facts about the video.
        recorded_at: when the recording began, with its zone; None where the file does not tell.
        warnings: what was found damaged or missing, for the user; grows while reading.

    Raises:
        VideoError: when opening or reading, as `VideoReader` does.
        DecoderCrashed: the process died, or wanted more memory than allowed.
        DecodeTimeout: it took too long, by the clock or in computing time.
        ChildProcessError: no process can be started at all.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        limits: MediaLimits | None = None,
        cage: Cage | None = None,
        decoders: Decoders | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._limits = limits or MediaLimits()
        self._cage = cage or Cage()
        self._decoders = decoders or _SHARED
        self._decoder: Decoder | None = None
        self._prefetches = 0  # that the decoder may still be busy with
        self.warnings: list[str] = []
        opening = self._open()
        self.info, self.recorded_at = opening.info, opening.recorded_at

    @property
    def pid(self) -> int | None:
        """The id of the process that reads, None while there is none."""
        return self._decoder.pid if self._decoder else None

    def sample(self, span: Span | None, frame_rate: float, max_frames: int) -> tuple[int, ...]:
        """Indices of evenly spaced frames; see `vm.video.sampling.sample_indices`."""
        return sample_indices(self.info.frame_count, self.info.frame_rate, span, frame_rate, max_frames)

    def timestamp(self, index: int) -> float:
        """When frame `index` is shown, in seconds from the first frame; see `VideoReader.timestamp`.

        Waits for what is being prefetched.

        Raises:
            IndexError: an index outside the video.
        """
        check_indices([index], self.info)
        with self._talking() as channel:
            channel.send({"do": "timestamp", "index": int(index)})
            return checked_times(self._reply(channel), 1)[0]

    def read(self, indices: Sequence[int], size: tuple[int, int]) -> Frames:
        """Decodes each of these frames, unless it was prefetched.

        Args:
            indices: from 0 to `info.frame_count - 1`.
            size: (height, width) in pixels.

        Raises:
            IndexError: an index outside the video.
            VideoError: nothing of it decodes, it takes too long, or its process died.
        """
        check_indices(indices, self.info)
        pixels = torch.empty((len(indices), 3, *size), dtype=torch.uint8)
        with self._talking() as channel:
            channel.send(_request("read", indices, size))
            reply = self._reply(channel, len(indices))
            times = checked_times(reply, len(indices))
            channel.fill(pixels.view(-1).numpy().data)
        return Frames(pixels, times)

    def prefetch(self, indices: Sequence[int], size: tuple[int, int]) -> None:
        """Has frames decoded in the background, as many of the first as `Cage.ahead_bytes` holds.

        A later `read` of any of them takes them from there, and tells what went wrong meanwhile.

        Raises:
            IndexError: an index outside the video.
            VideoError: the process died before.
        """
        check_indices(indices, self.info)
        with self._talking() as channel:
            channel.send(_request("prefetch", indices, size))
            self._prefetches += 1

    def close(self) -> None:
        """Ends the process. Reading again starts another."""
        self._end()

    def _open(self) -> Opening:
        """Starts a process and has it open the file."""
        request = {
            "do": "open",
            "path": self._path,
            "folder": os.sep if os.path.isabs(self._path) else os.getcwd(),
            "limits": vars(self._limits),
            "room": self._cage.ahead_bytes,
        }
        self._decoder = self._decoders.start(self._cage)
        try:
            with self._guarded(self._decoder) as channel:
                channel.send(request)
                return checked_opening(self._reply(channel), self._path, self._limits)
        except VideoError:
            self.close()
            raise

    @contextmanager
    def _talking(self) -> Iterator[Channel]:
        """To a process that has opened the file."""
        if self._decoder is None and self._open().info != self.info:
            self.close()
            raise UnsupportedMedia(f"{self._path}: the file has changed since it was opened. Open it anew.")
        assert self._decoder
        with self._guarded(self._decoder) as channel:
            yield channel

    @contextmanager
    def _guarded(self, decoder: Decoder) -> Iterator[Channel]:
        """Whatever goes wrong with the process ends it, and leaves as a VideoError."""
        seconds = self._limits.timeout * (1 + self._prefetches) + self._cage.grace_seconds
        decoder.channel.allow(seconds)
        try:
            yield decoder.channel
        except VideoError:
            raise
        except TimeoutError as error:
            self._end()
            raise too_slow(self._path, self._limits.timeout) from error
        except (EOFError, OSError) as error:
            raise self._cause_of_death(self._end(_DYING_SECONDS)) from error
        except ValueError as error:
            self._end()
            raise DecoderCrashed(
                f"{self._path}: the process that reads it no longer talks sense ({error}): "
                "the file may be made to do harm, and should be left."
            ) from error
        except BaseException:  # its answer would be taken for the next one
            self._end()
            raise

    def _reply(self, channel: Channel, frames: int = 1) -> dict[str, Any]:
        """The header of the answer to what was asked last, `frames` times long.

        Raises:
            VideoError: the answer is an error.
        """
        reply = channel.receive(_HEADER_BYTES + frames * _TIME_BYTES)
        self._prefetches = 0
        if "error" in reply:
            raise told_error(reply, self._path)
        new = [text for text in checked_warnings(reply, self._path) if text not in self.warnings]
        self.warnings += new
        return reply

    def _end(self, patience: float = 0.0) -> int | None:
        decoder, self._decoder = self._decoder, None
        self._prefetches = 0
        return decoder.end(patience) if decoder else None

    def _cause_of_death(self, status: int | None) -> VideoError:
        if status == -signal.SIGXCPU:
            return DecodeTimeout(
                f"{self._path}: reading took more than {self._cage.cpu_seconds} s of computing time. "
                "Shorten the video or raise the limit."
            )
        megabytes = self._cage.memory_bytes // _MB
        if status == OUT_OF_MEMORY:
            return DecoderCrashed(
                f"{self._path}: reading it takes more memory than the {megabytes} MB allowed. "
                "Scale the video down or raise the limit."
            )
        return DecoderCrashed(
            f"{self._path}: the process that reads it died ({_describe(status)}). The file is damaged, made "
            f"to do harm, or takes more memory than the {megabytes} MB allowed. Convert it elsewhere first."
        )


def open_isolated(
    path: str | os.PathLike[str], limits: MediaLimits | None = None, cage: Cage | None = None
) -> IsolatedReader:
    """Opens a local video file in a process of its own, or says why not.

    Raises:
        VideoError: as `open_video`, or DecoderCrashed.
        ChildProcessError: no process can be started at all.
    """
    return IsolatedReader(path, limits, cage)


def warm_up_decoders() -> None:
    """Does in the background what the first `open_isolated` would otherwise wait seconds for."""
    _SHARED.warm_up()


def _request(do: str, indices: Sequence[int], size: tuple[int, int]) -> dict[str, Any]:
    return {"do": do, "indices": [int(index) for index in indices], "size": [int(side) for side in size]}


def _describe(status: int | None) -> str:
    if status is None:
        return "of what, is unknown"
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
