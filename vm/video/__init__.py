"""A video file → facts, frames and their timestamps. The only package that knows PyAV."""

from vm.video.limits import MediaLimits
from vm.video.reader import Frames, VideoReader, open_video, probe

__all__ = ["Frames", "MediaLimits", "VideoReader", "open_video", "probe"]
