"""The miniatures: the real Qwen2.5-Omni thinker and Qwen2-Audio classes at about a million parameters.

They are made of transformers' own configurations, so every line of rlcomm that runs on them runs on the real
models; nothing outside this file knows that they are small. `rlcomm.orchestra.miniature` trains them.
"""

from collections.abc import Iterable
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before transformers, which imports torchvision)

import torch  # isort: skip
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    WhisperFeatureExtractor,
)

MEL_BINS = 32
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>",
    "<|IMAGE|>", "<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>",
)  # fmt: skip

# The words between the placeholders are those of the official templates, without their default system turn.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif part['type'] == 'image' %}<|vision_bos|><|IMAGE|><|vision_eos|>"
    "{% elif part['type'] == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Qwen2's pre-tokenizer: words with their leading blank, single digits, runs of punctuation.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 640) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of Qwen2's form whose merges are learned from `texts` (it encodes any)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "image_token": "<|IMAGE|>", "audio_token": "<|AUDIO|>", "video_token": "<|VIDEO|>",
            "vision_bos_token": "<|vision_bos|>", "vision_eos_token": "<|vision_eos|>",
            "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>",
        },
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
    )  # fmt: skip


def omni_processor(
    tokenizer: PreTrainedTokenizerFast, audio_seconds: int = 8, mel_bins: int = MEL_BINS
) -> Qwen2_5OmniProcessor:
    """The real processor with few mel bins (the real one: 128) and a short audio window (300 s)."""
    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=14, temporal_patch_size=2, merge_size=2),
        video_processor=Qwen2VLVideoProcessor(patch_size=14, temporal_patch_size=2, merge_size=2),
        feature_extractor=WhisperFeatureExtractor(
            feature_size=mel_bins, sampling_rate=16_000, hop_length=160, n_fft=400, chunk_length=audio_seconds
        ),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )


def _init(model: nn.Module, std: float, seed: int) -> None:
    """Weights of decoder and projections at `std`: at the usual 0.02 so small a model learns nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2 and (
            "language_model" in name or "proj" in name or "merger" in name or "lm_head" in name
        ):
            with torch.no_grad():
                parameter.normal_(0.0, std, generator=generator)


def nano_omni(
    tokenizer: PreTrainedTokenizerFast, hidden: int = 128, layers: int = 3, std: float = 0.1, seed: int = 0
) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """An untrained thinker of about 1 M parameters (float32); `hidden` is a multiple of 128."""
    ids: dict[str, Any] = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    torch.manual_seed(seed)
    vision: dict[str, Any] = dict(  # read by the model, though no field of the configuration
        vision_start_token_id=ids["<|vision_bos|>"], vision_end_token_id=ids["<|vision_eos|>"]
    )
    config = Qwen2_5OmniThinkerConfig(
        audio_config=dict(
            d_model=64, encoder_attention_heads=4, encoder_ffn_dim=256, encoder_layers=2,
            num_mel_bins=MEL_BINS, output_dim=hidden, n_window=100,
        ),
        vision_config=dict(
            depth=2, hidden_size=64, intermediate_size=128, num_heads=4, patch_size=14,
            out_hidden_size=hidden, fullatt_block_indexes=[1], window_size=112,
        ),
        text_config=dict(
            vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden,
            num_hidden_layers=layers, num_attention_heads=hidden // 32, num_key_value_heads=hidden // 64,
            tie_word_embeddings=True, max_position_embeddings=4096, eos_token_id=ids["<|im_end|>"],
            pad_token_id=ids["<|endoftext|>"],
            rope_parameters=dict(rope_type="default", rope_theta=10_000.0, mrope_section=[4, 6, 6]),
        ),
        tie_word_embeddings=True,
        audio_token_index=ids["<|AUDIO|>"], image_token_index=ids["<|IMAGE|>"],
        video_token_index=ids["<|VIDEO|>"],
        audio_start_token_id=ids["<|audio_bos|>"], audio_end_token_id=ids["<|audio_eos|>"],
        **vision,
    )  # fmt: skip
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    _init(model, std, seed)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], max_new_tokens=96
    )
    return model


def nano_audio(
    tokenizer: PreTrainedTokenizerFast,
    hidden: int = 128,
    layers: int = 2,
    window: int = 2,
    std: float = 0.1,
    seed: int = 0,
) -> tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]:
    """An untrained Qwen2-Audio and its processor; it hears `window` seconds at a time (the real: 30)."""
    ids: dict[str, Any] = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    torch.manual_seed(seed)
    tied: dict[str, Any] = dict(tie_word_embeddings=True)
    config = Qwen2AudioConfig(
        audio_config=dict(
            model_type="qwen2_audio_encoder", d_model=64, encoder_attention_heads=4, encoder_ffn_dim=256,
            encoder_layers=2, num_mel_bins=MEL_BINS, max_source_positions=50 * window,
        ),
        text_config=dict(
            model_type="qwen2", vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden,
            num_hidden_layers=layers, num_attention_heads=hidden // 32, num_key_value_heads=hidden // 64,
            max_position_embeddings=2048, eos_token_id=ids["<|im_end|>"],
            pad_token_id=ids["<|endoftext|>"], **tied,
        ),
        audio_token_index=ids["<|AUDIO|>"], **tied,
    )  # fmt: skip
    model = Qwen2AudioForConditionalGeneration(config)
    _init(model, std, seed)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"], max_new_tokens=64
    )
    processor = Qwen2AudioProcessor(
        feature_extractor=WhisperFeatureExtractor(
            feature_size=MEL_BINS, sampling_rate=16_000, hop_length=160, n_fft=400, chunk_length=window
        ),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )
    return model, processor
