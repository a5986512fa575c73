"""A local audio-language model of transformers: what it takes, what it is given, how a row's text is drawn.

    sound -> split_audio -> encode (the processor's own chat template) -> AudioModel.write -> one text a row

Any model of transformers that chats about sound: Qwen2-Audio, Audio Flamingo 3, Qwen2.5-Omni (its thinker),
Gemma 3n, ... Which class it is, and whether it takes sound, is what transformers itself says.
"""

import gc
import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import rlcomm.utils.torchvision_ops  # noqa: F401  # before anything that imports torchvision

import torch  # isort: skip
from transformers import (
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from rlcomm.omni.policy import resolve_model
from rlcomm.utils import processes
from rlcomm.utils.errors import UserError

_SHORTEST = 0.1  # seconds; below that the encoder has not the two tokens that Qwen2-Audio needs to find them


# ------------------------------------------------------------------------------------ what the model is given


def split_audio(audio: np.ndarray, rate: int, window: float | None) -> list[np.ndarray]:
    """Cuts a sound into parts that fit the model's window; put together again they are the sound.

    Equal parts, so that the last is never too short to be heard.

    Args:
        audio: (N,) float32. rate: its sampling rate in Hz. window: the longest part in seconds; None: one
            part, however long.

    Returns:
        At least one part; a sound shorter than 0.1 s is one part with silence added behind it.
    """
    if len(audio) < _SHORTEST * rate:
        return [np.pad(audio, (0, round(_SHORTEST * rate) - len(audio)))]
    return np.array_split(audio, 1 if window is None else -(-len(audio) // int(window * rate)))


def encode(
    processor: Any, audios: Sequence[np.ndarray], prompts: Sequence[str], window: float | None = None
) -> dict[str, torch.Tensor]:
    """Encodes B rows by the processor's chat template, left-padded, each ending in the assistant's opening.

    A sound longer than the model's window (`hearing_window`; 30 s for Qwen2-Audio) becomes several audio
    items of the same message: the feature extractor alone would cut it there without a word.

    Args:
        processor: tokenizer, feature extractor and chat template of the model.
        audios: B mono sounds (N,) float32 at the extractor's rate.
        prompts: B texts that stand behind the sound.
        window: seconds of an audio item at most; None: the model's own.

    Returns:
        input_ids, attention_mask (B, L), and what the model calls its features and their mask; for
        Qwen2-Audio input_features (items, mel, frames), feature_attention_mask (items, frames).
    """
    rate, window = sampling_rate(processor), window or hearing_window(processor)
    conversations: list[Any] = []
    for audio, prompt in zip(audios, prompts, strict=True):
        content: list[Any] = [{"type": "audio", "audio": part} for part in split_audio(audio, rate, window)]
        conversations.append([{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}])
    return dict(
        processor.apply_chat_template(
            conversations,
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            # of the text alone: features are padded as each family wants them
            processor_kwargs={"text_kwargs": {"padding": True, "padding_side": "left"}},
        )
    )


def sampling_rate(processor: Any) -> int:
    """Hz of the sound that a model hears."""
    return int(getattr(_extractor(processor), "sampling_rate", None) or 16_000)


def hearing_window(processor: Any) -> float | None:
    """Seconds of sound in one audio item, behind which the processor cuts; None: it takes any length."""
    if longest := getattr(processor, "max_audio_len", None):  # Audio Flamingo: windows of its own up to there
        return float(longest)
    if getattr(processor, "audio_kwargs", {}).get("truncation") is False:  # Qwen3-Omni
        return None
    extractor = _extractor(processor)
    samples = getattr(extractor, "n_samples", None)  # Whisper's
    if samples is None:  # Gemma's: a default of the call
        parameters = inspect.signature(type(extractor).__call__).parameters
        if "truncation" in parameters and parameters["truncation"].default is True:
            samples = parameters["max_length"].default
    return samples / sampling_rate(processor) if isinstance(samples, int) else None


# ------------------------------------------------------------------------------------------ the model at work


@dataclass(frozen=True)
class AudioModelInfo:
    """A model as far as it is known before its weights are loaded.

    Attributes:
        name: folder or hub id, as it is loaded.
        revision: hub commit to load; None for a folder.
        identity: what tells it from another of the same name: a hub commit, or a digest of the files.
        kind: its class in transformers.
        processor: tokenizer, feature extractor and chat template.
        one_item: it takes one audio item a message, and splits long sound itself.
    """

    name: str
    revision: str | None
    identity: str | None
    kind: Any
    processor: Any
    one_item: bool

    @property
    def rate(self) -> int:
        """Sampling rate of what it hears, Hz."""
        return sampling_rate(self.processor)

    @property
    def window(self) -> float | None:
        """Seconds that it hears in one audio item; None: any."""
        return hearing_window(self.processor)


def audio_model_info(model_name_or_path: str, revision: str | None = None) -> AudioModelInfo:
    """Looks at a model and loads its processor; its weights are left alone.

    Args:
        model_name_or_path: folder or hub id; `nano_audio` is the packaged miniature.
        revision: of a model on the hub.

    Raises:
        UserError: it cannot be read, takes no sound, or has no chat template.
    """
    name, shown = resolve_model(model_name_or_path), model_name_or_path
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The reference model is {shown!r}, which cannot be read as a model "
            f"({str(error).splitlines()[0]}); give the folder or hub id of an audio-language model."
        ) from error
    kind = _class_that_hears(config)
    if kind is None:
        raise UserError(
            f"The reference model is {shown!r}, a {config.model_type!r} model, which takes no sound in "
            "transformers; give an audio-language model such as Qwen2-Audio."
        )
    identity = _identity(name, config, revision)
    commit = None if Path(name).is_dir() else identity
    try:
        processor = AutoProcessor.from_pretrained(name, revision=commit)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"The processor of the reference model {shown!r} could not be loaded "
            f"({str(error).strip().splitlines()[0]}); give a complete model folder, or install what it lacks."
        ) from error
    if _extractor(processor) is None or not getattr(processor, "chat_template", None):
        lacks = "no audio features" if _extractor(processor) is None else "no chat template"
        raise UserError(
            f"The reference model is {shown!r}, whose processor has {lacks}, so it cannot be asked about a "
            "sound here; give another model, or serve this one and set reference_backend: endpoint."
        )
    return AudioModelInfo(name, commit, identity, kind, processor, hasattr(processor, "max_audio_len"))


class RowSampler(LogitsProcessor):
    """Samples each row from its own random stream, so that its text does not depend on the rows beside it.

    Temperature and nucleus as in `generate`, then Gumbel noise of the row's generator: the greedy choice that
    follows is an exact draw from the row's distribution. Rounding still differs a little with padding and
    batch size.

    Args:
        seeds: one per row.
        temperature: > 0; 0 adds no noise (greedy).
        top_p: nucleus share in (0, 1].
        forbidden: token ids never written.
    """

    def __init__(
        self, seeds: Sequence[int], temperature: float, top_p: float, forbidden: Sequence[int] = ()
    ) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature, self.top_p, self.forbidden = temperature, top_p, list(forbidden)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores (B, V) -> noisy scores (B, V) float32, their argmax being the sample."""
        scores = scores.float()
        scores[:, self.forbidden] = -torch.inf
        if self.temperature == 0:
            return scores
        scores = scores / self.temperature
        if self.top_p < 1:
            ordered, index = scores.sort(dim=-1, descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # mass of the likelier tokens
            scores = scores.scatter(-1, index, ordered.masked_fill(before >= self.top_p, -torch.inf))
        noise = torch.stack(
            [torch.empty(scores.shape[-1]).exponential_(generator=g) for g in self.generators]
        )
        return scores - noise.clamp_min(torch.finfo(torch.float32).tiny).log().to(scores.device)


class AudioModel:
    """An audio-language model, loaded once; it is freed by `close`."""

    def __init__(
        self, info: AudioModelInfo, dtype: str | None, device: Any = None, window: float | None = None
    ) -> None:
        self.device = torch.device(device or processes.device())
        kind = getattr(torch, dtype or ("bfloat16" if self.device.type == "cuda" else "float32"))
        self.processor = info.processor
        self.window = window or info.window
        try:
            which: Any = {"revision": info.revision, "dtype": kind, "use_safetensors": True}
            model: Any = info.kind.from_pretrained(info.name, **which)
            self.model = model.to(self.device).eval()
        except (OSError, ValueError) as error:
            raise UserError(
                f"The reference model {info.name!r} could not be loaded ({str(error).splitlines()[0]}); give "
                "a complete model folder with safetensors weights."
            ) from error
        tokenizer = self.processor.tokenizer
        own = self.model.generation_config
        self.eos = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
        ends = set(self.eos if isinstance(self.eos, list) else [self.eos])
        # where a family's placeholders are no special tokens, they are none to be written all the same
        media = [getattr(self.processor, f"{name}_token_id", None) for name in ("audio", "image", "video")]
        placeholders = {token for token in media if token is not None}
        self.forbidden = sorted({*tokenizer.all_special_ids, *placeholders} - ends)
        # else generate() fills what we leave open from the model's file (Qwen2-Audio: repetition_penalty 1.1)
        self.model.generation_config = GenerationConfig(
            eos_token_id=self.eos,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends),
        )

    def parts(self, audio: np.ndarray) -> int:
        """In how many parts an (N,) float32 sound is heard."""
        return len(split_audio(audio, sampling_rate(self.processor), self.window))

    @torch.no_grad()
    def write(
        self,
        audios: Sequence[np.ndarray],
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: dict[str, Any],
    ) -> list[str]:
        """One text for each row, special tokens removed.

        Args:
            audios: B mono sounds (N,) float32 at the model's rate.
            prompts: B texts.
            seeds: of each row's own random stream, (B,).
            sampling: temperature, top_p, max_new_tokens.
        """
        inputs = {}
        for name, value in encode(self.processor, audios, prompts, self.window).items():
            value = value.to(self.device)
            inputs[name] = value.to(self.model.dtype) if value.is_floating_point() else value
        sampler = RowSampler(seeds, sampling["temperature"], sampling["top_p"], self.forbidden)
        ids = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=sampling["max_new_tokens"],
            logits_processor=LogitsProcessorList([sampler]),
        )
        return self.processor.tokenizer.batch_decode(
            ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )

    def close(self) -> None:
        """Frees the model; the policy may now be loaded."""
        self.model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


# ------------------------------------------------------------------------------------------------ inner parts


def _class_that_hears(config: Any) -> Any:
    """The class of transformers that takes sound and writes text, for a configuration; None: there is none.

    Of a full omni model it is the thinker: the talker is not asked.
    """
    inner = getattr(config, "thinker_config", config)
    for mapping in (MODEL_FOR_MULTIMODAL_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING):
        if type(inner) in mapping:
            kind: Any = mapping[type(inner)]
            deaf = getattr(inner, "audio_config", "") is None  # the family hears, this size of it does not
            if "audio" in kind.input_modalities and not deaf:
                return kind
    return None


def _extractor(processor: Any) -> Any:
    """The part of a processor that turns sound into features."""
    return getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)


def _identity(name: str, config: Any, revision: str | None) -> str | None:
    """What tells this model from another of the same name: a hub commit, or a digest of the files."""
    if not Path(name).is_dir():
        return getattr(config, "_commit_hash", None) or revision
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(name).iterdir()):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".jinja", ".txt"):
            size = path.stat().st_size
            digest.update(f"{path.name}:{size}:".encode())
            with path.open("rb") as stream:  # both ends of a large file: enough to notice other weights
                digest.update(stream.read(1 << 23))
                stream.seek(max(0, size - (1 << 23)))
                digest.update(stream.read())
    return "local-" + digest.hexdigest()
