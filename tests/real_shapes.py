"""Configurations of the real models' shapes; no weights.

Widths, depths, heads and sizes of MLPs are those of the recipes' READMEs and of the papers; the vocabularies
(151,936 and 152,064) are from memory of the published config.json and move the totals by less than 0.1 %.
"""

from pathlib import Path
from typing import Any

from transformers import Qwen2_5OmniConfig

SHAPES: dict[str, dict[str, Any]] = {
    "3b": dict(
        hidden_size=2048, num_hidden_layers=36, num_attention_heads=16, num_key_value_heads=2,
        intermediate_size=11_008, vocab_size=151_936,
    ),
    "7b": dict(
        hidden_size=3584, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        intermediate_size=18_944, vocab_size=152_064,
    ),
}  # fmt: skip


def omni_config(size: str) -> Qwen2_5OmniConfig:
    """A whole Qwen2.5-Omni, `3b` or `7b`."""
    text = SHAPES[size]
    return Qwen2_5OmniConfig(
        thinker_config=dict(
            audio_config=dict(
                d_model=1280, encoder_attention_heads=20, encoder_ffn_dim=5120, encoder_layers=32,
                num_mel_bins=128, output_dim=text["hidden_size"], n_window=100,
            ),
            vision_config=dict(
                depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, patch_size=14,
                out_hidden_size=text["hidden_size"], fullatt_block_indexes=[7, 15, 23, 31], window_size=112,
            ),
            text_config=dict(
                **text, tie_word_embeddings=False,
                rope_parameters=dict(
                    rope_type="default", rope_theta=1_000_000.0, mrope_section=[16, 24, 24]
                ),
            ),
        )
    )  # fmt: skip


def save_config(size: str, folder: Path) -> Path:
    """The config.json of `omni_config` in a folder of its own."""
    omni_config(size).save_pretrained(folder / size)
    return folder / size
