"""How the bundled checkpoint is built, and what its roles are shown. One place for every number.

Prompts and budgets end up in the checkpoint's `roles.json`, the rest in the base's `config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vm.config import TOKEN_PIXELS

VOCABULARY = 768  # rows of the embedding; the tokenizer needs about 700
HIDDEN = 256
VISION_WIDTH = 192
DECODER_WIDTH = 128
LORA_RANK = 64

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|reg|>",
    "<|seg_start|>",
    "<|seg_end|>",
)

# Frames of every shape come to 9 to 16 tokens, so that a person is some 30 pixels high.
PIXELS = {"min_pixels": 9 * TOKEN_PIXELS, "max_pixels": 16 * TOKEN_PIXELS}
ROLES: dict[str, dict[str, Any]] = {
    "planner": {
        "prompt": "Plan for this question: {}",
        "frame_rate": 0.5,
        "max_frames": 4,
        "max_new_tokens": 96,
        **PIXELS,
    },
    "grounder": {
        "prompt": "Find the moment: {}",
        "frame_rate": 2.0,
        "max_frames": 150,
        "max_new_tokens": 8,
        **PIXELS,
    },
    "verifier": {
        "prompt": "Is this seen between <|seg_start|> and <|seg_end|>: {}",
        "frame_rate": 2.0,
        "max_frames": 96,
        "max_new_tokens": 4,
        "confidence_weight": 1.5,  # the best on validation clips
        **PIXELS,
    },
    "answerer": {
        "prompt": "{}",
        "frame_rate": 2.0,
        "max_frames": 64,
        "max_new_tokens": 64,
        "min_seconds": 8.0,
        "choose_by": "words",
        **PIXELS,
    },
}


def base_config(ids: Mapping[str, int]) -> dict[str, Any]:
    """The base's `config.json`. Args: ids: of the special tokens."""
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "torch_dtype": "float16",
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "max_position_embeddings": 32768,
        "num_attention_heads": 4,
        "num_hidden_layers": 6,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_token_id": ids["<|image_pad|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_config": {
            "depth": 4,
            "embed_dim": VISION_WIDTH,
            "hidden_size": HIDDEN,
            "in_channels": 3,
            "mlp_ratio": 4,
            "num_heads": 6,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "model_type": "qwen2_vl",
        },
    }
