"""Every error the library raises on purpose, as one tree.

    VideoMindError
    ├── VideoError                 the video cannot be used
    │   ├── InvalidSource          missing, a folder, empty, not a regular file
    │   ├── UnsupportedMedia       not media, or damaged beyond reading
    │   ├── ForbiddenMedia         a format, codec or protocol we refuse to open
    │   ├── NoVideoStream          audio only, subtitles only
    │   ├── NoFrames               a video stream from which nothing decodes
    │   ├── FrameTooLarge          more pixels than the limit allows
    │   ├── DecodeTimeout          reading took longer than the limit
    │   └── DecoderCrashed         the process that reads the file died of it
    ├── QuestionError              the question, options or settings make no sense
    │   └── SubtitleError          the subtitle file cannot be read
    ├── CheckpointError            base or checkpoint cannot be used
    │   ├── CheckpointNotFound     no such folder, or a file in it is missing
    │   ├── UnsafeWeights          a pickle where safetensors belongs
    │   ├── UnknownModelType       a model this library does not run
    │   ├── TensorMismatch         missing, unexpected or wrongly shaped tensors
    │   ├── MissingRole            a role is asked for that the checkpoint does not have
    │   └── InvalidRoles           roles.json (or the constants it is made from) is malformed
    ├── EvaluationError            annotations or predictions cannot be used
    ├── TrainingError              training cannot go on with these settings or this run folder
    │   └── TrainingDataError      the training data cannot be used
    ├── OutOfMemory                the device has no memory left for this
    └── DownloadError              the hub could not be reached or refused

The message is written for the person who sees it: what is wrong, with which file, and what to do.
"""


class VideoMindError(Exception):
    """Base of all errors raised on purpose."""

    code = "error"


class VideoError(VideoMindError):
    """The video cannot be used."""

    code = "bad_video"


class InvalidSource(VideoError):
    """The path is missing, a folder, empty or not a regular file."""

    code = "invalid_source"


class UnsupportedMedia(VideoError):
    """The file is not media, or is damaged beyond reading."""

    code = "unsupported_media"


class ForbiddenMedia(VideoError):
    """The file's format, codec or protocol is one we refuse to open."""

    code = "forbidden_media"


class NoVideoStream(VideoError):
    """The file has no video stream."""

    code = "no_video_stream"


class NoFrames(VideoError):
    """Nothing decodes from the video stream."""

    code = "no_frames"


class FrameTooLarge(VideoError):
    """The frames have more pixels than the limit allows."""

    code = "frame_too_large"


class DecodeTimeout(VideoError):
    """Reading the video took longer than the limit."""

    code = "decode_timeout"


class DecoderCrashed(VideoError):
    """The process that reads the file died of it."""

    code = "decoder_crashed"


class QuestionError(VideoMindError):
    """The question, its options or its settings make no sense."""

    code = "bad_question"


class SubtitleError(QuestionError):
    """The subtitle file cannot be read."""

    code = "bad_subtitles"


class CheckpointError(VideoMindError):
    """The base model or the checkpoint cannot be used."""

    code = "bad_checkpoint"


class CheckpointNotFound(CheckpointError):
    """A folder or file that a checkpoint needs is missing."""

    code = "checkpoint_not_found"


class UnsafeWeights(CheckpointError):
    """Weights are stored as a pickle where safetensors belongs."""

    code = "unsafe_weights"


class UnknownModelType(CheckpointError):
    """The model is of a type this library does not run."""

    code = "unknown_model_type"


class TensorMismatch(CheckpointError):
    """Tensors are missing, unexpected or wrongly shaped."""

    code = "tensor_mismatch"


class MissingRole(CheckpointError):
    """A role is asked for that the checkpoint does not have."""

    code = "missing_role"


class InvalidRoles(CheckpointError):
    """roles.json, or the constants it is made from, is malformed."""

    code = "invalid_roles"


class EvaluationError(VideoMindError):
    """A file of annotations or predictions cannot be used."""

    code = "bad_evaluation"


class TrainingError(VideoMindError):
    """Training cannot begin or go on with these settings, or in this folder."""

    code = "training_failed"


class TrainingDataError(TrainingError):
    """The training data, or too much of it, cannot be used."""

    code = "bad_training_data"


class OutOfMemory(VideoMindError):
    """The device has no memory left for this."""

    code = "out_of_memory"


class DownloadError(VideoMindError):
    """The hub could not be reached, or refused."""

    code = "download_failed"
