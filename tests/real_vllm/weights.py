"""A language model too small to be of any use, made here: what vLLM needs to start, without a download."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["END", "make_weights"]

CONTEXT = 1024
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
END = 0
"""The token that ends a reply."""


def make_weights(folder: Path) -> Path:
    """A Llama of two layers, its tokenizer trained on this project's pages; the weights are vLLM's dummies."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    pages = sorted(Path(__file__).parents[2].glob("docs/**/*.md"))
    tokenizer.train([str(page) for page in pages], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        tokenizer_class="PreTrainedTokenizerFast",
        eos_token=SPECIAL[END],
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
    )
    _write(
        folder / "config.json",
        architectures=["LlamaForCausalLM"],
        model_type="llama",
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-6,
        rope_theta=10000.0,
        hidden_act="silu",
        tie_word_embeddings=False,
        bos_token_id=END,
        eos_token_id=END,
        torch_dtype="float32",
    )
    return folder


def _write(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(fields))
