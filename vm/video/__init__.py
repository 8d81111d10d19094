"""A video file → facts, frames and their timestamps, or a clip cut out of it. Only here is PyAV known."""

from vm.video.export import Clip, export_clip
from vm.video.isolated import IsolatedReader, open_isolated, warm_up_decoders
from vm.video.limits import Cage, MediaLimits
from vm.video.reader import Frames, OpenVideo, VideoReader, open_video, probe

__all__ = [
    "Cage",
    "Clip",
    "Frames",
    "IsolatedReader",
    "MediaLimits",
    "OpenVideo",
    "VideoReader",
    "export_clip",
    "open_isolated",
    "open_video",
    "probe",
    "warm_up_decoders",
]
