"""Sample -> EncodedPrompt: the one door through which every model input goes.

    Sample + Clip --(chat template, processor)--> ids, media tensors --(rope index, once)--> EncodedPrompt

SFT, rollout, log-probabilities, candidate scores, GACL and diagnostics all start from an `EncodedPrompt`, so
a clip that is heard by the sampler is heard by the loss as well. What follows a prompt is plain text, whose
positions simply continue from `next_position`.
"""

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample, Turn
from rlcomm.omni.policy import thinker_class
from rlcomm.utils.errors import UserError

PROMPT_STYLES = ("steps", "direct")
INSTRUCTIONS = {
    "steps": (
        "Write what you hear in <a-think> </a-think>, then what you see in <v-think> </v-think>, "
        "then the final answer in <answer> </answer>."
    ),
    "direct": "Answer with a word or a phrase.",
}


@dataclass
class EncodedPrompt:
    """One prompt, ready for the model.

    Attributes:
        ids: token ids (P,), int64, media placeholders expanded, ending in the assistant's opening.
        positions: rotary positions (3, P) (time, height, width): int64 of Qwen2.5-Omni; float32 of
            Qwen3-Omni, which gives a frame the time it was taken at, between whole positions at most rates.
        next_position: the position of the first token after the prompt.
        media: what the towers read: `input_features` (n_audio, mel, frames), `feature_attention_mask`
            (n_audio, frames), `pixel_values_videos` (patches, values), `video_grid_thw` (n_video, 3), and the
            same for images.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    next_position: float
    media: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.ids)


def user_text(turn: Turn, prompt_style: str, instruct: bool = True) -> str:
    """The words of one user turn: the question, its options by letter, then one instruction.

    Args:
        turn: question and options.
        prompt_style: `steps` asks for the three segments in order, `direct` for the answer alone.
        instruct: leave the instruction out in the later turns of a conversation.

    Raises:
        UserError: `prompt_style` is none of `PROMPT_STYLES`.
    """
    if prompt_style not in INSTRUCTIONS:
        raise UserError(
            f"prompt_style is {prompt_style!r}, which is unknown; use one of {', '.join(PROMPT_STYLES)}."
        )
    lines = [turn.question]
    lines += [f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(turn.options)]
    return "\n".join([*lines, INSTRUCTIONS[prompt_style]] if instruct else lines)


def style_of(sample: Sample, prompt_style: str) -> str:
    """The prompt style of one row: its own (`meta["prompt_style"]`), else the run's.

    A warm-up holds rows of its own style: `direct` ones replayed beside the three segments.
    """
    return str(sample.meta.get("prompt_style", prompt_style))


def encode(
    policy: Any, sample: Sample, clip: Clip, prompt_style: str = "steps", text: str | None = None
) -> EncodedPrompt:
    """Encodes the clip and the first question of `sample` once, however many completions will follow.

    Args:
        policy: anything with `.processor` and `.config`.
        sample: its `video` and `audio` say which senses the clip was loaded for.
        clip: decoded media. Frames and sound together are interleaved in time (audio in video), in the way of
            the model's own processor.
        prompt_style: see `user_text`.
        text: the user's words, in place of `user_text(sample.turns[0], prompt_style)`.

    Returns:
        The prompt; its tensors lie on the CPU.
    """
    processor = policy.processor
    content: list[dict] = []
    inputs: dict[str, Any] = {}
    is_image = clip.frames is not None and len(clip.frames) == 1
    if clip.frames is not None and is_image:
        content.append({"type": "image"})
        inputs["images"] = [torch.from_numpy(clip.frames[0]).permute(2, 0, 1)]
        inputs["images_kwargs"] = {"size": _own_size(clip, processor.image_processor)}
    elif clip.frames is not None:
        content.append({"type": "video"})
        inputs["videos"] = [torch.from_numpy(clip.frames).permute(0, 3, 1, 2)]
        inputs["videos_kwargs"] = {
            "do_sample_frames": False, "fps": clip.fps, "size": _own_size(clip, processor.video_processor),
        }  # fmt: skip
    if clip.audio is not None:
        inputs["audio"] = [clip.audio]
        if "videos" in inputs:
            inputs["audio_from_video_indices"], inputs["load_audio_from_video"] = [0], True
            # The processor interleaves by a rate of its own; positions are those of the model's.
            inputs["position_id_per_seconds"] = policy.config.position_id_per_seconds
        else:
            content.append({"type": "audio"})
    content.append({"type": "text", "text": text or user_text(sample.turns[0], prompt_style)})
    rendered = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    features = processor(text=[rendered], return_tensors="pt", **inputs)
    ids = features.pop("input_ids")
    features.pop("attention_mask")
    if "feature_attention_mask" in features:  # padded to the extractor's window: keep what is sound
        longest = int(features["feature_attention_mask"].sum(-1).max())
        for key in ("feature_attention_mask", "input_features"):  # a view would keep the whole window
            features[key] = features[key][..., :longest].clone()
    positions = rope_positions(policy.config, ids, features)
    features.pop("video_second_per_grid", None)  # only the positions needed it
    return EncodedPrompt(ids[0], positions, positions.max().item() + 1, dict(features))


def reword(policy: Any, prompt: EncodedPrompt, text: str) -> EncodedPrompt:
    """`prompt` with other words of the user behind the same media, which are not encoded again.

    Equal to `encode(..., text=text)` of the same clip; the media tensors are the same objects.

    Args:
        policy: as in `encode`.
        prompt: of `encode`.
        text: the user's words.
    """
    processor = policy.processor
    tokenizer = processor.tokenizer
    words = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": text}]}],
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    ends = [
        tokenizer.convert_tokens_to_ids(token)
        for token in (processor.vision_eos_token, processor.audio_eos_token)
    ]
    closing = torch.isin(prompt.ids, torch.tensor(ends)).nonzero().flatten()
    if len(closing):
        kept = int(closing[-1]) + 1
        opening = words[: words.index(text)]
        words = words[len(opening) :]
    else:
        kept = 0
    tail = torch.tensor(tokenizer(words, add_special_tokens=False)["input_ids"], dtype=prompt.ids.dtype)
    start = prompt.positions[:, :kept].max().item() + 1 if kept else 0
    following = (start + torch.arange(len(tail))).expand(3, -1)
    return EncodedPrompt(
        torch.cat([prompt.ids[:kept], tail]),
        torch.cat([prompt.positions[:, :kept], following], 1),
        start + len(tail),
        prompt.media,
    )


def extend(prompt: EncodedPrompt, ids: Sequence[int]) -> EncodedPrompt:
    """`prompt` with more text behind it, such as the beginning of an answer."""
    text = torch.tensor(ids, dtype=prompt.ids.dtype)
    places = (prompt.next_position + torch.arange(len(ids))).to(prompt.positions.dtype)
    return EncodedPrompt(
        torch.cat([prompt.ids, text]),
        torch.cat([prompt.positions, places.expand(3, -1)], 1),
        prompt.next_position + len(ids),
        prompt.media,
    )


def _own_size(clip: Clip, reader: Any) -> dict[str, int]:
    """Bounds within which the processor only rounds to whole patches: frames come sized from data.media, and
    the processor's own class-wide size would enlarge small ones."""
    assert clip.frames is not None
    height, width = clip.frames.shape[1:3]
    token = reader.patch_size * reader.merge_size  # pixels of a visual token's side
    return {"shortest_edge": token * token, "longest_edge": 4 * max(height, token) * max(width, token)}


def _rope_index(config: Any) -> Any:
    """transformers' own `get_rope_index` of the thinker, without its weights."""
    thinker = thinker_class(config.model_type, config.model_type)
    bare: Any = thinker.__new__(thinker)
    torch.nn.Module.__init__(bare)
    bare.config, bare.spatial_merge_size = config, config.vision_config.spatial_merge_size
    return bare.get_rope_index


def rope_positions(config: Any, ids: torch.Tensor, features: dict) -> torch.Tensor:
    """Positions (3, P) of one prompt `ids` (1, P), by transformers' own `get_rope_index` (a slow loop)."""
    if "video_grid_thw" not in features and "image_grid_thw" not in features:
        # Without vision every token, audio included, advances all three axes by one.
        return torch.arange(ids.shape[1]).expand(3, -1).clone()
    mask = features.get("feature_attention_mask")
    seconds = features.get("video_second_per_grid")
    positions, _ = _rope_index(config)(
        ids,
        image_grid_thw=features.get("image_grid_thw"),
        video_grid_thw=features.get("video_grid_thw"),
        attention_mask=torch.ones_like(ids),
        use_audio_in_video=mask is not None and "video_grid_thw" in features,
        audio_seqlens=None if mask is None else mask.sum(-1),
        second_per_grids=None if seconds is None else torch.as_tensor(seconds),
    )
    return positions[:, 0]


def position_dtype(prompts: Iterable[EncodedPrompt]) -> torch.dtype:
    """The dtype that holds the positions of all of these prompts."""
    return torch.float32 if any(p.positions.is_floating_point() for p in prompts) else torch.long


def conversation_pieces(
    policy: Any, sample: Sample, prompt_style: str, targets: list[str]
) -> tuple[list[int], list[int]]:
    """What follows the encoded prompt of a (multi-turn) sample in SFT.

    Args:
        policy: anything with `.processor`.
        sample: its later turns are asked without the instruction.
        prompt_style: see `user_text`.
        targets: the assistant's words, one per turn.

    Returns:
        Token ids (T,) and a loss mask (T,) of 0/1: 1 on the assistant's words and the end of its turn.
    """
    tokenizer = policy.processor.tokenizer
    ids: list[int] = []
    mask: list[int] = []
    for i, target in enumerate(targets):
        if i > 0:
            opening = policy.processor.apply_chat_template(
                [{"role": "user", "content": user_text(sample.turns[i], prompt_style, instruct=False)}],
                tokenize=False, add_generation_prompt=True,
            )  # fmt: skip
            between = tokenizer("\n" + opening, add_special_tokens=False)["input_ids"]
            ids, mask = ids + between, mask + [0] * len(between)
        words = completion_ids(tokenizer, target)
        ids, mask = ids + words, mask + [1] * len(words)
    return ids, mask


def completion_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of an assistant's words, closed by the end-of-turn token."""
    return tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]


def merge_media(
    prompts: list[EncodedPrompt], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Concatenates the media of several prompts in order, audio padded to the longest.

    Returns:
        Keyword arguments of the thinker's forward: (sum of the prompts' items, ...) on `device`, reals in
        `dtype`.
    """
    merged: dict[str, torch.Tensor] = {}
    for key in sorted({key for prompt in prompts for key in prompt.media}):
        parts = [prompt.media[key] for prompt in prompts if key in prompt.media]
        if key in ("input_features", "feature_attention_mask"):
            longest = max(part.shape[-1] for part in parts)
            parts = [torch.nn.functional.pad(part, (0, longest - part.shape[-1])) for part in parts]
        value = torch.cat(parts).to(device, non_blocking=True)
        merged[key] = value.to(dtype) if value.is_floating_point() else value
    return merged


def swap_media(prompt: EncodedPrompt, other: EncodedPrompt, keys: tuple[str, ...]) -> EncodedPrompt:
    """`prompt` with another prompt's media under `keys`, the rest unchanged (equal shapes are required)."""
    swapped = copy.copy(prompt.media)
    for key in keys:
        if swapped[key].shape != other.media[key].shape:
            raise ValueError(
                f"{key}: shapes differ, {tuple(swapped[key].shape)} and {tuple(other.media[key].shape)}"
            )
        swapped[key] = other.media[key]
    return dataclasses.replace(prompt, media=swapped)
