"""Tiny random checkpoints of whole omni models (thinker, talker, vocoder), saved by transformers itself."""

from pathlib import Path
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401

import torch  # isort: skip
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
    Qwen3OmniMoeProcessor,
    WhisperFeatureExtractor,
)

from rlcomm.orchestra import nano

ROPE = dict(rope_type="default", rope_theta=10_000.0, mrope_section=[4, 6, 6])
# What the tokens are called in Qwen3-Omni's tokenizer.
QWEN3_NAMES = {
    "<|AUDIO|>": "<|audio_pad|>", "<|audio_bos|>": "<|audio_start|>", "<|audio_eos|>": "<|audio_end|>",
    "<|IMAGE|>": "<|image_pad|>", "<|VIDEO|>": "<|video_pad|>",
    "<|vision_bos|>": "<|vision_start|>", "<|vision_eos|>": "<|vision_end|>",
}  # fmt: skip


def qwen25_omni(
    tokenizer: Any, seed: int = 5, tied: bool = False, **text: Any
) -> Qwen2_5OmniForConditionalGeneration:
    """A full Qwen2.5-Omni around the miniature thinker; `text` are entries of its decoder's configuration."""
    thinker = nano.nano_omni(tokenizer, seed=seed).config.to_dict()
    thinker["tie_word_embeddings"] = thinker["text_config"]["tie_word_embeddings"] = tied
    thinker["text_config"] |= text
    config = Qwen2_5OmniConfig(
        thinker_config=thinker,
        talker_config=dict(
            vocab_size=40, embedding_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, head_dim=32, rope_parameters=ROPE,
        ),
        token2wav_config=dict(
            dit_config=dict(
                hidden_size=32, num_hidden_layers=1, num_attention_heads=2, head_dim=16, emb_dim=16,
                mel_dim=8, num_embeds=33, enc_emb_dim=16, enc_dim=16, enc_channels=[8, 8, 8, 8, 24],
                enc_attention_channels=8, enc_se_channels=8, look_ahead_layers=[0], look_backward_layers=[0],
            ),
            bigvgan_config=dict(
                mel_dim=8, upsample_initial_channel=16, upsample_rates=[2, 2], upsample_kernel_sizes=[4, 4]
            ),
        ),
        enable_audio_output=True,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Qwen2_5OmniForConditionalGeneration(config)
    nano._init(model.thinker, 0.1, seed)
    model.thinker.tie_weights()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, max_new_tokens=64)
    return model


def save_full(model: Any, processor: Any, folder: Path, **options: Any) -> Path:
    """As on the hub: weights, processor, the talker's voices, a card."""
    model.save_pretrained(folder, **options)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("A card.\n")
    torch.save({"Chelsie": {"bos_token": 7, "cond": torch.ones(1, 16)}}, folder / "spk_dict.pt")
    return folder


def qwen3_tokenizer(tokenizer: Any) -> PreTrainedTokenizerFast:
    """`tokenizer` (of rlcomm.orchestra.nano) with Qwen3-Omni's names of the special tokens."""

    def rename(text: str) -> str:
        for before, now in QWEN3_NAMES.items():
            text = text.replace(before, now)
        return text

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(rename(tokenizer.backend_tokenizer.to_str())),
        eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens={
            "image_token": "<|image_pad|>", "audio_token": "<|audio_pad|>", "video_token": "<|video_pad|>",
            "vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>",
            "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>",
        },
        additional_special_tokens=["<|im_start|>"], chat_template=rename(nano.CHAT_TEMPLATE),
        padding_side="left",
    )  # fmt: skip


def qwen3_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen3OmniMoeProcessor:
    return Qwen3OmniMoeProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, temporal_patch_size=2, merge_size=2),
        video_processor=Qwen2VLVideoProcessor(patch_size=16, temporal_patch_size=2, merge_size=2),
        feature_extractor=WhisperFeatureExtractor(
            feature_size=nano.MEL_BINS, sampling_rate=16_000, hop_length=160, n_fft=400, chunk_length=8
        ),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


def qwen3_omni(tokenizer: PreTrainedTokenizerFast, seed: int = 5) -> Qwen3OmniMoeForConditionalGeneration:
    """A full Qwen3-Omni: three decoder layers of four experts, deepstack from both vision layers."""
    ids = tokenizer.convert_tokens_to_ids
    tokens = dict(
        audio_token_id=ids("<|audio_pad|>"), image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"), vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"), audio_start_token_id=ids("<|audio_start|>"),
        audio_end_token_id=ids("<|audio_end|>"), position_id_per_seconds=13, initializer_range=0.1,
    )  # fmt: skip
    rope = {**ROPE, "mrope_section": [6, 5, 5], "interleaved": True}
    decoder = dict(
        hidden_size=128, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, rope_parameters=rope, moe_intermediate_size=64, num_experts=4,
        num_experts_per_tok=2, initializer_range=0.1,
    )  # fmt: skip
    config = Qwen3OmniMoeConfig(
        thinker_config=dict(
            audio_config=dict(
                d_model=64, encoder_attention_heads=4, encoder_ffn_dim=128, encoder_layers=2,
                num_mel_bins=nano.MEL_BINS, output_dim=128, downsample_hidden_size=8, initializer_range=0.1,
            ),
            vision_config=dict(
                depth=2, hidden_size=64, intermediate_size=128, num_heads=4, patch_size=16,
                out_hidden_size=128, num_position_embeddings=16, deepstack_visual_indexes=[0, 1],
                initializer_range=0.1,
            ),
            text_config=dict(
                **decoder, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
            **tokens,
        ),
        talker_config=dict(
            text_config=decoder
            | dict(vocab_size=40, shared_expert_intermediate_size=64, num_hidden_layers=1),
            code_predictor_config=dict(
                vocab_size=40, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                num_attention_heads=2, num_key_value_heads=1, head_dim=16, num_code_groups=2,
            ),
            num_code_groups=2, thinker_hidden_size=128, accept_hidden_layer=1, spatial_merge_size=2, **tokens,
        ),
        code2wav_config=dict(
            codebook_size=40, hidden_size=32, num_attention_heads=2, num_key_value_heads=2,
            intermediate_size=32, num_hidden_layers=1, num_quantizers=2, decoder_dim=32,
            upsample_rates=[2, 2], upsampling_ratios=[2],
        ),
        enable_audio_output=True,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Qwen3OmniMoeForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, max_new_tokens=64)
    return model
