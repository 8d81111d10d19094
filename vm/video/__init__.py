"""A video file → facts, frames and their timestamps, or a clip cut out of it. Only here is PyAV known."""

from vm.video.export import Clip, export_clip
from vm.video.limits import MediaLimits
from vm.video.reader import Frames, VideoReader, open_video, probe

__all__ = ["Clip", "Frames", "MediaLimits", "VideoReader", "export_clip", "open_video", "probe"]
