"""Reference reasoning o_ref: what an audio-language model hears, once per row, before any RL (RL-CoMM).

    Sample --(its sound alone, split to the model's window)--> Qwen2-Audio, told question and gold answer
           --> <a-think> ... </a-think> --> Sample.reference + meta["reference"] (provenance)

The reference does not depend on the policy, so it is a column of the data set and its model is loaded, used
and freed before the policy is. The picture never enters here.
"""

import contextlib
import dataclasses
import gc
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import rlcomm.torchvision_ops  # noqa: F401  # before anything that imports torchvision

import torch  # isort: skip
from tqdm import tqdm
from transformers import (
    AutoConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
)

from rlcomm import files, steps
from rlcomm.data.media import MediaSettings, cache_key, load_clip
from rlcomm.data.sample import Sample, Turn, write_jsonl
from rlcomm.errors import UserError
from rlcomm.omni.policy import load_policy, resolve_model
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.rollout import generate
from rlcomm.vocabulary import Vocabulary

ALL_SOUND = MediaSettings(audio_seconds=None)
"""Media settings under which the reference hears a clip to its end."""

SEE_QUESTION = "What do you see?"
_SHORTEST = 0.1  # seconds; below that the encoder has not the two tokens that Qwen2-Audio needs to find them

# Words of sight. What an audio-only model says of pictures it has made up.
_SEEN = re.compile(
    r"\b(?:see|sees|saw|seen|seeing|looks?|looked|looking|watch(?:es|ed|ing)?|visibl[ey]|invisible"
    r"|visual(?:s|ly)?|view(?:s|ed)?|pictures?|pictured|images?|photos?|videos?|footage|frames?|screen|camera"
    r"|shows|shown|depict(?:s|ed|ing)?|wear(?:s|ing)|on the (?:left|right)(?: side)?)\b",
    re.IGNORECASE,
)


# ------------------------------------------------------------------------------------ what the model is asked


def reference_prompt(question: str, answer: str, options: Sequence[str] = ()) -> str:
    """The words that go with the sound; the one builder, also for training the miniature.

    After the released RL-CoMM prompt: the model is an assistant for hearing, is told the answer, and reasons
    about what it hears that is useful for it, inside <a-think> tags.
    """
    choices = [f"{chr(ord('A') + index)}. {option}" for index, option in enumerate(options)]
    return "\n".join([
        "You are an assistant for hearing.", question, *choices, f"The answer is: {answer}",
        "Reason about what you hear that is useful for this answer, in <a-think> </a-think>.",
    ])  # fmt: skip


def split_audio(audio: np.ndarray, rate: int, window: float) -> list[np.ndarray]:
    """Cuts a sound into parts that fit the model's window; put together again they are the sound.

    Equal parts, so that the last is never too short to be heard.

    Args:
        audio: (N,) float32. rate: its sampling rate in Hz. window: the longest part in seconds.

    Returns:
        At least one part; a sound shorter than 0.1 s is one part with silence added behind it.
    """
    if len(audio) < _SHORTEST * rate:
        return [np.pad(audio, (0, round(_SHORTEST * rate) - len(audio)))]
    return np.array_split(audio, -(-len(audio) // int(window * rate)))


def encode(
    processor: Qwen2AudioProcessor, audios: Sequence[np.ndarray], prompts: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Encodes B rows for Qwen2-Audio, left-padded, each ending in the assistant's opening.

    A sound longer than the feature extractor's window (`chunk_length`, 30 s for the real model) becomes
    several audio items of the same message: the extractor alone would cut it there without a word.

    Args:
        processor: tokenizer, feature extractor and chat template of the model.
        audios: B mono sounds (N,) float32 at the extractor's rate.
        prompts: B texts of `reference_prompt`.

    Returns:
        input_ids, attention_mask (B, L); input_features (items, mel, frames), feature_attention_mask (items,
        frames).
    """
    extractor = processor.feature_extractor
    rate = extractor.sampling_rate
    split = [split_audio(audio, rate, extractor.n_samples / rate) for audio in audios]
    texts = []
    for parts, prompt in zip(split, prompts, strict=True):
        content: list[Any] = [{"type": "audio"} for _ in parts] + [{"type": "text", "text": prompt}]
        messages: list[Any] = [{"role": "user", "content": content}]
        texts.append(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    processor.tokenizer.padding_side = "left"
    return dict(
        processor(
            text=texts,
            audio=[part for parts in split for part in parts],
            sampling_rate=rate,
            padding=True,
            return_tensors="pt",
        )
    )


# ------------------------------------------------------------------------------------------ the model at work


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


class Hearer:
    """Qwen2-Audio and its processor, loaded once; the model is freed by `close`."""

    def __init__(self, name: str, revision: str | None, dtype: str | None, device: str | None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        kind = getattr(torch, dtype or ("bfloat16" if self.device.startswith("cuda") else "float32"))
        try:
            self.processor = _processor(name, revision)
            which: Any = {"revision": revision, "dtype": kind, "use_safetensors": True}
            model: Any = Qwen2AudioForConditionalGeneration.from_pretrained(name, **which)
            self.model = model.to(self.device).eval()
        except (OSError, ValueError) as error:
            raise UserError(
                f"The reference model {name!r} could not be loaded ({str(error).splitlines()[0]}); give a "
                "complete Qwen2-Audio folder with safetensors weights."
            ) from error
        tokenizer = self.processor.tokenizer
        own = self.model.generation_config
        self.eos = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
        ends = set(self.eos if isinstance(self.eos, list) else [self.eos])
        self.forbidden = sorted(set(tokenizer.all_special_ids) - ends)
        # else generate() fills what we leave open from the model's file (Qwen2-Audio: repetition_penalty 1.1)
        self.model.generation_config = GenerationConfig(
            eos_token_id=self.eos,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends),
        )

    @torch.no_grad()
    def write(
        self,
        audios: Sequence[np.ndarray],
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: dict[str, Any],
    ) -> list[str]:
        """One text for each row, special tokens removed."""
        inputs = {
            name: value.to(self.device) for name, value in encode(self.processor, audios, prompts).items()
        }
        inputs["input_features"] = inputs["input_features"].to(self.model.dtype)
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


def write_references(
    samples: Sequence[Sample],
    model_name_or_path: str,
    out_path: str | os.PathLike,
    *,
    media: MediaSettings = ALL_SOUND,
    cache_dir: str | os.PathLike | None = None,
    batch_size: int = 8,
    temperature: float = 0.5,
    top_p: float = 0.95,
    max_new_tokens: int = 128,
    attempts: int = 3,
    seed: int = 0,
    revision: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes `samples` with o_ref filled in, one text per row: its sound alone, question and gold answer.

    A row is computed only where its inputs changed: the bytes of its sound, question, options, gold answer,
    prompt, model, sampling. What is finished is kept in `<out_path>.partial` until all is, so an interrupted
    run goes on from there. A row's text depends on its id and `seed`, not on the rows beside it.

    `meta["reference"]` of every row: model, revision, prompt_hash, sampling, inputs_hash, parts (audio items
    heard), attempt, and `failed`: None, "no audio", or the text without a readable <a-think>.

    Args:
        samples: rows; those without sound stay without reference.
        model_name_or_path: a Qwen2-Audio folder or hub id; `nano_audio` is the packaged miniature.
        out_path: JSON Lines of samples; read first, to reuse its rows, and replaced at the end.
        media: how sound is decoded (`audio_seconds`, `missing_audio`); the sampling rate is the model's.
        cache_dir: folder of decoded clips.
        batch_size: rows at a time.
        temperature: >= 0 (paper: 0.5); 0 is greedy.
        top_p: in (0, 1] (paper: 0.95).
        max_new_tokens: >= 1.
        attempts: a text without a readable <a-think> is written anew, with another seed, up to so many times
            in all.
        seed: of the sampling.
        revision: of a model on the hub.
        dtype: "float32", "bfloat16" or "float16"; None: bfloat16 on a GPU, else float32.
        device: None: the GPU where there is one.
        progress: show a bar.

    Returns:
        {"rows", "computed", "reused", "with_reference" (rows ARR can score), "failed": [ids], "no_audio":
        [ids], "split": rows heard in several parts, "hearing_exact": {"value", "n"} (share of the rows with
        known meta["audible"] whose reference names exactly what sounds; value None without any), "seconds",
        "model", "revision", "out"}.

    Raises:
        UserError: a setting out of range, an id that occurs twice, a model or a clip that cannot be read, a
            full disk.
    """
    started = time.monotonic()
    _check(samples, batch_size, temperature, top_p, max_new_tokens, attempts, dtype)
    out_path = Path(out_path)
    name = resolve_model(model_name_or_path)
    revision = _identity(name, model_name_or_path, revision)
    extractor = _processor(name, _hub(name, revision)).feature_extractor
    media = MediaSettings(
        audio_seconds=media.audio_seconds,
        sampling_rate=extractor.sampling_rate,
        missing_audio=media.missing_audio,
    )  # what concerns frames must not change the hash
    sampling = {
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "attempts": attempts,
        "seed": seed,
    }
    provenance = {
        "model": model_name_or_path,
        "revision": revision,
        "prompt_hash": _hash(reference_prompt("{q}", "{a}")),
        "sampling": sampling,
    }

    heard = [sample for sample in samples if sample.audio]
    hashes = {
        sample.id: _hash(
            cache_key(None, sample.audio, media),
            _prompt(sample),
            name if revision is None else "",
            provenance["revision"],
            provenance["prompt_hash"],
            sampling,
        )
        for sample in heard
    }
    partial = out_path.with_name(out_path.name + ".partial")
    done = {
        id: row
        for id, row in _finished(out_path, partial).items()
        if id in hashes and row["meta"].get("inputs_hash") == hashes[id]
    }
    reused = len(done)
    todo = [sample for sample in heard if sample.id not in done]

    if todo:
        files.write_jsonl(
            partial, [{"id": id, **row} for id, row in done.items()]
        )  # also drops a torn last line
        hearer = Hearer(name, _hub(name, revision), dtype, device)
        try:
            with (
                _appending(partial) as append,
                tqdm(total=len(todo), desc="reference", disable=not progress) as bar,
            ):
                for first in range(0, len(todo), batch_size):
                    batch = todo[first : first + batch_size]
                    for sample, row in zip(
                        batch, _listen(hearer, batch, media, cache_dir, sampling), strict=True
                    ):
                        row["meta"] = {**provenance, "inputs_hash": hashes[sample.id], **row["meta"]}
                        done[sample.id] = row
                        append({"id": sample.id, **row})
                    bar.update(len(batch))
        finally:
            hearer.close()

    deaf = {"reference": None, "meta": {**provenance, "failed": "no audio"}}
    rows = [(sample, done.get(sample.id, deaf)) for sample in samples]
    filled = [
        dataclasses.replace(
            sample, reference=row["reference"], meta={**sample.meta, "reference": row["meta"]}
        )
        for sample, row in rows
    ]
    write_jsonl(out_path, filled)
    partial.unlink(missing_ok=True)
    return {
        "rows": len(samples), "computed": len(todo), "reused": reused,
        "with_reference": sum(sample.reference is not None for sample in filled),
        "failed": [sample.id for sample in filled if sample.audio and sample.reference is None],
        "no_audio": [sample.id for sample in filled if not sample.audio],
        "split": sum(row["meta"].get("parts", 0) > 1 for _, row in rows),
        "hearing_exact": hearing_exact(filled), "seconds": round(time.monotonic() - started, 1),
        "model": model_name_or_path, "revision": revision, "out": str(out_path),
    }  # fmt: skip


def hearing_exact(samples: Sequence[Sample]) -> dict[str, Any]:
    """How often a reference names exactly what sounds, where `meta["audible"]`, `meta["ambient"]` tell.

    Returns:
        {"value": share in [0, 1] or None where nothing is known, "n": rows whose sound is known}.
    """
    known = [sample for sample in samples if sample.audio and sample.meta.get("audible") is not None]
    fields = ("audible", "visible", "ambient", "muted")
    words = Vocabulary.of(
        {name for sample in known for field in fields for name in _names(sample.meta.get(field))}
    )
    exact = sum(
        words.claimed(sample.reference)
        == {words.name(n) for field in ("audible", "ambient") for n in _names(sample.meta.get(field))}
        for sample in known
        if sample.reference
    )
    return {"value": exact / len(known) if known else None, "n": len(known)}


# ------------------------------------------------------------------------------------------- rows for warm-up


def write_warmup(
    samples: Sequence[Sample],
    model_name_or_path: str,
    out_path: str | os.PathLike,
    *,
    see: Callable[[list[Sample]], list[str]],
    **options: Any,
) -> dict[str, Any]:
    """Writes warm-up rows for clips that have none (`rlcomm reference --for warmup`; METHOD: about 100 rows).

        a-think: the reference model, from the sound alone    v-think: `see`, from the picture alone
        answer:  the gold answer                              target:  steps.build of the three

    Rows whose a-think speaks of what is seen, or which lack one of the two, are rejected and listed with the
    reason in `<out_path without suffix>.rejected.jsonl`. The references themselves are kept beside, in
    `<out_path without suffix>.heard.jsonl`, so that a second run computes only what changed.

    Args:
        samples: rows with sound and picture.
        model_name_or_path: the reference model.
        out_path: JSON Lines of samples with `target` and `reference` filled in.
        see: gets the rows without their sound, gives one description each; called after the reference model
            is freed. `policy_sight` makes one out of the policy; any vision-language model will do.
        options: those of `write_references`.

    Returns:
        The report of `write_references`, and "written", "rejected": [{"id", "reason", "a_think", "v_think"}].

    Raises:
        UserError: as `write_references`; nothing could be written.
    """
    out_path = Path(out_path)
    heard_path = out_path.with_name(out_path.stem + ".heard.jsonl")
    report = write_references(samples, model_name_or_path, heard_path, **options)
    heard = {id: row["reference"] for id, row in _finished(heard_path, None).items()}
    shown = [sample for sample in samples if sample.video]
    sights = dict(
        zip([sample.id for sample in shown], see([sample.without("audio") for sample in shown]), strict=True)
    )

    rows, rejected = [], []
    for sample in samples:
        a_think, v_think = heard.get(sample.id), sights.get(sample.id)
        try:
            reason = _reason(a_think, v_think)
            target = "" if reason else steps.build(a_think or "", v_think or "", sample.answer)
        except UserError as error:
            reason = str(error)
        if reason:
            rejected.append({"id": sample.id, "reason": reason, "a_think": a_think, "v_think": v_think})
        else:
            turns = (dataclasses.replace(sample.turns[0], target=target), *sample.turns[1:])
            rows.append(dataclasses.replace(sample, turns=turns, reference=a_think))
    files.write_jsonl(out_path.with_name(out_path.stem + ".rejected.jsonl"), rejected)
    if not rows:
        raise UserError(
            f"{out_path}: none of the {len(samples)} rows gave a warm-up row (first reason: "
            f"{rejected[0]['reason'] if rejected else 'there are no rows'}); see the .rejected.jsonl beside "
            "it and try another reference model or other rows."
        )
    write_jsonl(out_path, rows)
    return {**report, "written": len(rows), "rejected": rejected, "out": str(out_path)}


def policy_sight(
    model_name_or_path: str,
    media: MediaSettings,
    *,
    cache_dir: str | None = None,
    batch_size: int = 8,
    max_new_tokens: int = 128,
    question: str = SEE_QUESTION,
    **options: Any,
) -> Callable[[list[Sample]], list[str]]:
    """A `see` for `write_warmup`: the policy without sound, greedily, loaded when asked, then freed.

    Args:
        model_name_or_path: the policy. media: how frames are decoded. cache_dir: folder of decoded clips.
        batch_size: rows at a time. max_new_tokens: length of a description. question: what it is asked.
        options: of `load_policy` (dtype, revision, device, ...).
    """

    def see(samples: list[Sample]) -> list[str]:
        policy = load_policy(model_name_or_path, **options)
        prompts = Prompts(policy, media, "direct", cache_dir)
        texts: list[str] = []
        for first in tqdm(range(0, len(samples), batch_size), desc="what is seen"):
            batch = [
                prompts(dataclasses.replace(sample, turns=(Turn(question, ""),)))
                for sample in samples[first : first + batch_size]
            ]
            texts += [
                group[0]
                for group in generate(policy.model, policy.processor, batch, max_new_tokens=max_new_tokens)
            ]
        del policy, prompts
        gc.collect()
        return texts

    return see


def speaks_of_sight(text: str) -> str | None:
    """The first word of sight in `text` ("I see a drum" -> "see"); None where it speaks of sound alone."""
    found = _SEEN.search(text)
    return found.group() if found else None


def _reason(a_think: str | None, v_think: str | None) -> str | None:
    """Why a row is rejected, or None."""
    if not a_think:
        return "nothing readable was heard"
    if word := speaks_of_sight(a_think):
        return f"the a-think speaks of what is seen ({word!r})"
    if v_think is None:
        return "there is no picture"
    return None


# ------------------------------------------------------------------------------------------------ inner parts


def _listen(
    hearer: Hearer,
    batch: Sequence[Sample],
    media: MediaSettings,
    cache_dir: str | os.PathLike | None,
    sampling: dict[str, Any],
) -> list[dict[str, Any]]:
    """{"reference", "meta": {"parts", "attempt", "failed"}} of each row."""
    sounds = []
    for sample in batch:
        sound = load_clip(None, sample.audio, media, cache_dir).audio
        assert sound is not None  # it was asked for: load_clip raises where there is none
        sounds.append(sound)
    window = hearer.processor.feature_extractor.n_samples / media.sampling_rate
    rows: list[dict[str, Any]] = [{} for _ in batch]
    pending = list(range(len(batch)))
    for attempt in range(sampling["attempts"]):
        texts = hearer.write(
            [sounds[i] for i in pending],
            [_prompt(batch[i]) for i in pending],
            [_row_seed(sampling["seed"], batch[i].id, attempt) for i in pending],
            sampling,
        )
        for i, text in zip(pending, texts, strict=True):
            thought = steps.parse(text).audio
            rows[i] = {
                "reference": thought.text if thought.found else None,
                "meta": {
                    "parts": len(split_audio(sounds[i], media.sampling_rate, window)),
                    "attempt": attempt + 1,
                    "failed": None if thought.found else text,
                },
            }
        pending = [i for i in pending if rows[i]["reference"] is None]
        if not pending or sampling["temperature"] == 0:  # greedy would say the same again
            break
    return rows


def _prompt(sample: Sample) -> str:
    return reference_prompt(sample.question, sample.answer, sample.options)


def _row_seed(seed: int, id: str, attempt: int) -> int:
    return int(_hash(seed, id, attempt)[:15], 16)


def _hash(*values: Any) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _identity(name: str, shown: str, revision: str | None) -> str | None:
    """What tells this model from another of the same name: a hub commit, or a digest of the files."""
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The reference model is {shown!r}, which cannot be read as a model "
            f"({str(error).splitlines()[0]}); give a Qwen2-Audio folder or hub id."
        ) from error
    if config.model_type != "qwen2_audio":
        raise UserError(
            f"The reference model is {shown!r}, a {config.model_type!r} model, but the reference listens "
            "with Qwen2-Audio; give a Qwen2-Audio checkpoint."
        )
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


def _processor(name: str, revision: str | None) -> Any:
    return Qwen2AudioProcessor.from_pretrained(name, revision=revision)  # type: ignore[arg-type]


def _hub(name: str, revision: str | None) -> str | None:
    return None if Path(name).is_dir() else revision


def _finished(out_path: Path, partial: Path | None) -> dict[str, dict[str, Any]]:
    """{id: {"reference", "meta"}} of an earlier run; unreadable lines are as if they were not there."""
    rows: dict[str, dict[str, Any]] = {}
    for path in (out_path, partial):
        if path is None or not path.exists():
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                row = json.loads(line)
                meta = row["meta"]["reference"] if path == out_path else row["meta"]
                if isinstance(meta, dict):
                    rows[str(row["id"])] = {"reference": row.get("reference"), "meta": meta}
    return rows


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[Callable[[dict], None]]:
    """Yields a function that appends one JSON object as a line; one cut off by a crash is read by nobody."""
    stream = path.open("a", encoding="utf-8")

    def append(row: dict) -> None:
        try:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
        except OSError as error:
            raise UserError(
                f"{path}: could not be written ({error.strerror or error}); free space and run the same "
                "command again, the rows before are kept."
            ) from error

    try:
        yield append
    finally:
        with contextlib.suppress(OSError):  # what could not be flushed has been reported
            stream.close()


def _check(
    samples: Sequence[Sample],
    batch_size: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    attempts: int,
    dtype: str | None,
) -> None:
    wrong = [
        (batch_size >= 1, "batch_size", batch_size, "at least 1"),
        (temperature >= 0, "temperature", temperature, "0 (greedy) or above"),
        (0 < top_p <= 1, "top_p", top_p, "above 0 and at most 1"),
        (max_new_tokens >= 1, "max_new_tokens", max_new_tokens, "at least 1"),
        (attempts >= 1, "attempts", attempts, "at least 1"),
        (dtype in (None, "float32", "bfloat16", "float16"), "dtype", dtype, "float32, bfloat16 or float16"),
    ]
    for fine, setting, value, range_ in wrong:
        if not fine:
            raise UserError(
                f"{setting} of the reference is {value!r}, which it cannot be; set it to {range_}."
            )
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise UserError(
                f"Two rows have the id {sample.id!r}, so their references could not be told apart; give "
                "every row its own id."
            )
        seen.add(sample.id)
