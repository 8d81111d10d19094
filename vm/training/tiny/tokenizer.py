"""Makes the tokenizer: byte pairs, so that every text can be read, of the few words this world needs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from vm.training.tiny.sizes import CHAT_TEMPLATE, ROLES, SPECIAL_TOKENS, VOCABULARY


def make_tokenizer(texts: Iterable[str], folder: Path) -> dict[str, int]:
    """Write `tokenizer.json` and `chat_template.json`. Returns the ids of the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = [role["prompt"] for role in ROLES.values()]
    tokenizer.train_from_iterator([*texts, *prompts, "user", "assistant"], trainer)
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in SPECIAL_TOKENS]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}, indent=1) + "\n")
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return {text: vocabulary[text] for text in SPECIAL_TOKENS}
