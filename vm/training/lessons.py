"""What the model is taught: a view of a video, and all that is asked of it. Knows no file and no weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Example:
    """One thing asked of a view, and what is to be written in reply.

    Attributes:
        after: token ids behind the video, from `<|vision_end|>` up to where the model is to write.
        reply: the token ids it is to write, with the one that ends its turn.
        spans: for the grounder the true spans, as fractions 0 to 1 of the view.
    """

    after: tuple[int, ...]
    reply: tuple[int, ...]
    spans: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Lesson:
    """One view of one video and its examples, which share the video's place in the sequence.

    Attributes:
        features: (T, H·W, hidden) what the vision tower makes of the view.
        token_grid: (T, H, W) in tokens.
        before: token ids up to and with `<|vision_start|>`.
        examples: at least one. They begin with the same token, `<|vision_end|>`.
        marked: the stretch between the segment markers, in temporal patches from the view's start.
    """

    features: Tensor
    token_grid: tuple[int, int, int]
    before: tuple[int, ...]
    examples: tuple[Example, ...]
    marked: tuple[int, int] | None = None
