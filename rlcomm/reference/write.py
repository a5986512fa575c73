"""Reference reasoning o_ref: what an audio-language model hears, once per row, before any RL (RL-CoMM).

    Sample --(its sound alone, split to the model's window)--> Qwen2-Audio, told question and gold answer
           --> <a-think> ... </a-think> --> Sample.reference + meta["reference"] (provenance)

The model is a local one (`rlcomm.reference.hearer`; several processes share the rows) or behind an endpoint
(`rlcomm.reference.remote_hearer`). The reference does not depend on the policy, so it is a column of the data
set and its model is loaded, used and freed before the policy is. The picture never enters here.
"""

import contextlib
import dataclasses
import gc
import glob
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rlcomm import llm_api as endpoint
from rlcomm import steps
from rlcomm.data.clips import cache_key, load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.data.vocabulary import Vocabulary
from rlcomm.omni.policy import load_policy
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.rollout import generate
from rlcomm.reference import remote_hearer
from rlcomm.reference.hearer import Ear, Hearer, open_ear
from rlcomm.reference.remote_hearer import RemoteHearer
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError

ALL_SOUND = MediaSettings(audio_seconds=None)
"""Media settings under which the reference hears a clip to its end."""

SEE_QUESTION = "What do you see?"
BACKENDS = ("transformers", "endpoint")

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


# ------------------------------------------------------------------------------------------- one text a row


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
    backend: str = "transformers",
    window: float | None = None,
    concurrency: int = 8,
    timeout: float = 120.0,
    retries: int = 4,
) -> dict[str, Any] | None:
    """Writes `samples` with o_ref filled in, one text per row: its sound alone, question and gold answer.

    A row is computed only where its inputs changed: the bytes of its sound, question, options, gold answer,
    prompt, model, sampling. What is finished is kept in `<out_path>.partial` until all is, so an interrupted
    run goes on from there. A row's text depends on its id and `seed`, not on the rows beside it.

    Several processes (`accelerate launch`) share the batches; each keeps its own in `<out_path>.partial.<n>`,
    and the first writes them all, in the order of the rows: the file is that of one process. They may be
    stopped and started again in another number. An endpoint is asked by the first process alone.

    `meta["reference"]` of every row: model, revision, prompt_hash, sampling, inputs_hash, parts (audio items
    heard), attempt, and `failed`: None, "no audio", or the text without a readable <a-think>; of an endpoint
    also `backend`, and `refused` with the reason in `failed` where it would not answer: such a row has no
    reference, and is asked again by the next run.

    Args:
        samples: rows; those without sound stay without reference.
        model_name_or_path: folder or hub id of an audio-language model of transformers; `nano_audio` is the
            packaged miniature. Of an endpoint: the model's name there.
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
        backend: "transformers", or "endpoint": RLCOMM_REFERENCE_BASE_URL with RLCOMM_REFERENCE_API_KEY, else
            OPENAI_BASE_URL with OPENAI_API_KEY, say where (`rlcomm.llm_api`).
        window: seconds of sound in one audio item at most, >= 1; None: the model's own, an endpoint's whole.
        concurrency: requests at once, at least 1; this and what follows is of an endpoint alone.
        timeout: seconds that a request may take.
        retries: further tries after a time-out, a broken connection, 429 or 5xx.

    Returns:
        {"rows", "computed", "reused", "with_reference" (rows ARR can score), "failed": [ids], "no_audio":
        [ids], "split": rows heard in several parts, "hearing_exact": {"value", "n"} (share of the rows with
        known meta["audible"] whose reference names exactly what sounds; value None without any), "seconds",
        "model", "revision", "out"}; None on all processes but the first.

    Raises:
        UserError: a setting out of range, an id that occurs twice, a model or a clip that cannot be read, an
            endpoint that does not answer, a full disk.
    """
    started = time.monotonic()
    _check(samples, batch_size, temperature, top_p, max_new_tokens, attempts, dtype, backend, window)
    rank, world = processes.rank(), processes.world()
    if backend == "endpoint":
        endpoint.check(remote_hearer.WHO, model_name_or_path, concurrency, timeout, retries)
        if rank != 0:
            return None  # there is nothing to compute, only to wait for
        world = 1
    out_path = Path(out_path)
    ear = open_ear(model_name_or_path, revision) if backend == "transformers" else None
    media = MediaSettings(
        audio_seconds=media.audio_seconds,
        sampling_rate=ear.rate if ear else remote_hearer.RATE,
        missing_audio=media.missing_audio,
    )  # what concerns frames must not change the hash
    sampling: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "max_new_tokens": max_new_tokens,
        "attempts": attempts,
        "seed": seed,
        **({} if window is None else {"window": window}),
    }
    provenance = {
        "model": model_name_or_path,
        "revision": ear.identity if ear else None,
        **({} if ear else {"backend": backend}),
        "prompt_hash": _hash(reference_prompt("{q}", "{a}")),
        "sampling": sampling,
    }

    heard = [sample for sample in samples if sample.audio]
    hashes: dict[str, str] = {}
    finished: set[str] = set()
    if rank == 0:
        hashes = {sample.id: _inputs_hash(sample, media, ear, provenance) for sample in heard}
        done = _known(out_path, hashes)
        finished = set(done)
        if len(done) < len(heard):  # one journal again, without torn lines, however many there were
            files.write_jsonl(_journal(out_path, 0), [{"id": id, **row} for id, row in done.items()])
            for journal in set(_journals(out_path)) - {_journal(out_path, 0)}:
                journal.unlink()
    if world > 1:  # also: no process writes before the first has read
        hashes, finished = processes.tell((hashes, finished))
    # the batches do not depend on what is finished: whoever computes a row, and when, the rows beside it are
    # the same, and with them the rounding
    batches = [heard[first : first + batch_size] for first in range(0, len(heard), batch_size)]
    batches = [left for batch in batches if (left := [s for s in batch if s.id not in finished])]
    mine = batches[rank::world]

    if mine:
        with _appending(_journal(out_path, rank)) as append:

            def keep(batch: Sequence[Sample], rows: Sequence[dict[str, Any]]) -> None:
                append([
                    {"id": sample.id, "reference": row["reference"],
                     "meta": {**provenance, "inputs_hash": hashes[sample.id], **row["meta"]}}
                    for sample, row in zip(batch, rows, strict=True)
                ])  # fmt: skip

            def sound(sample: Sample) -> np.ndarray:
                audio = load_clip(None, sample.audio, media, cache_dir).audio
                assert audio is not None  # it was asked for: load_clip raises where there is none
                _check_length(sample, len(audio) / media.sampling_rate, ear, window)
                return audio

            if ear is not None:
                hearer = Hearer(ear, dtype, device, window)
                _hear(mine, hearer, sampling, sound, keep, progress and rank == 0)
            else:
                asking = endpoint.Asking(
                    remote_hearer.endpoint(), remote_hearer.WHO, model_name_or_path, timeout, retries,
                    concurrency, unit="row", made="rows", place=_journal(out_path, rank), progress=progress,
                )  # fmt: skip
                rows = [sample for batch in mine for sample in batch]
                _ask(rows, RemoteHearer(asking, window), sampling, sound, keep)
    if world > 1:
        processes.wait()
    if rank != 0:
        return None

    filled = _merge(samples, out_path, hashes, provenance)
    return {
        "rows": len(samples), "computed": len(heard) - len(finished), "reused": len(finished),
        "with_reference": sum(sample.reference is not None for sample in filled),
        "failed": [sample.id for sample in filled if sample.audio and sample.reference is None],
        "no_audio": [sample.id for sample in filled if not sample.audio],
        "split": sum(sample.meta["reference"].get("parts", 0) > 1 for sample in filled),
        "hearing_exact": hearing_exact(filled), "seconds": round(time.monotonic() - started, 1),
        "model": model_name_or_path, "revision": provenance["revision"], "out": str(out_path),
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
        words.exact(sample.reference, _names(sample.meta.get("audible")) + _names(sample.meta.get("ambient")))
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
) -> dict[str, Any] | None:
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
            is freed, by the first process alone. `policy_sight` makes one out of the policy; any
            vision-language model will do.
        options: those of `write_references`.

    Returns:
        The report of `write_references`, and "written", "rejected": [{"id", "reason", "a_think", "v_think"}];
        None on all processes but the first.

    Raises:
        UserError: as `write_references`; nothing could be written.
    """
    out_path = Path(out_path)
    heard_path = out_path.with_name(out_path.stem + ".heard.jsonl")
    report = write_references(samples, model_name_or_path, heard_path, **options)
    if report is None:
        return None
    heard = {id: row["reference"] for id, row in _read(heard_path, "reference")}
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


def write_sights(
    path: str | os.PathLike,
    see: Callable[[list[Sample]], list[str]],
    model: str,
    media: MediaSettings,
    kept: Mapping[str, tuple[str, dict[str, Any]]] | None = None,
) -> int:
    """Fills in what a witness of the picture alone says, `Sample.sight` (for avc_mode witnessed).

        Sample --(without sound, asked SEE_QUESTION)--> `see` --> Sample.sight + meta["sight"] (provenance)

    Args:
        path: JSON Lines of samples, as `write_references` wrote it; written anew.
        see: as in `write_warmup`; gets one row for each picture that has no sight yet.
        model: name of the witness, kept as provenance.
        media: how it is shown the clips, likewise.
        kept: what `sights` read before `write_references` wrote the file; those of another model, picture or
            decoding are made anew.

    Returns:
        The number of rows with a sight.
    """
    samples = read_jsonl(path)
    meta = {
        clip: {"model": model, "question": SEE_QUESTION, "inputs_hash": cache_key(clip, None, media)}
        for clip in {sample.video for sample in samples if sample.video}
    }
    known: dict[str | None, str] = {}
    for sample in samples:
        if sample.video and kept and kept.get(sample.id, ("", {}))[1] == meta[sample.video]:
            known[sample.video] = kept[sample.id][0]
    unseen: dict[str | None, Sample] = {}
    for sample in samples:
        if sample.video and sample.video not in known:
            unseen.setdefault(sample.video, sample.without("audio"))
    if unseen:
        known |= dict(zip(unseen, see(list(unseen.values())), strict=True))
    filled = [
        dataclasses.replace(
            sample,
            sight=known[sample.video].strip() or None,
            meta={**sample.meta, "sight": meta[sample.video]},
        )
        if sample.video
        else sample
        for sample in samples
    ]
    write_jsonl(path, filled)
    return sum(sample.sight is not None for sample in filled)


def sights(path: str | os.PathLike) -> dict[str, tuple[str, dict[str, Any]]]:
    """{id: (sight, provenance)} of the rows that have one; lines that cannot be read are passed over."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8", errors="replace").split("\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                row = json.loads(line)
                found[str(row["id"])] = (row["sight"], row["meta"]["sight"])
    return found


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
    """A `see` for `write_warmup` and `write_sights`: the policy without sound, greedily; loaded when asked,
    then freed.

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


Keep = Callable[[Sequence[Sample], Sequence[dict[str, Any]]], None]


def _hear(
    batches: Sequence[Sequence[Sample]],
    hearer: Hearer,
    sampling: dict[str, Any],
    sound: Callable[[Sample], np.ndarray],
    keep: Keep,
    progress: bool,
) -> None:
    """Every batch by a local model, which is freed at the end."""
    try:
        with tqdm(total=sum(map(len, batches)), desc="reference", disable=not progress) as bar:
            for batch in batches:
                keep(batch, _listen(hearer, batch, [sound(sample) for sample in batch], sampling))
                bar.update(len(batch))
    finally:
        hearer.close()


def _ask(
    samples: Sequence[Sample],
    hearer: RemoteHearer,
    sampling: dict[str, Any],
    sound: Callable[[Sample], np.ndarray],
    keep: Keep,
) -> None:
    """Every row by a model behind an endpoint, several at once."""
    lock = threading.Lock()
    refused = 0  # in a row

    def work(id: str, sample: Sample) -> bool | None:
        nonlocal refused
        audio = sound(sample)
        try:
            [row] = _listen(hearer, [sample], [audio], sampling)
        except endpoint.Failure as failure:
            if failure.scope != "item":
                raise
            meta = {"failed": f"refused: {failure.why}", "refused": True}
            row = {"reference": None, "meta": {"parts": hearer.parts(audio), "attempt": 1, **meta}}
        with lock:
            keep([sample], [row])
            refused = refused + 1 if "refused" in row["meta"] else 0
            if refused >= endpoint.DOWN:
                raise endpoint.Failure(
                    f"{hearer.asking.who} {hearer.asking.model!r}: {refused} rows in a row were "
                    f"{row['meta']['failed']}; name a model that takes input_audio, or mend the setting that "
                    "it refuses",
                    "run",
                )
        return None if "refused" in row["meta"] else True

    endpoint.ask_each({sample.id: sample for sample in samples}, work, hearer.asking)


def _listen(
    hearer: Hearer | RemoteHearer,
    batch: Sequence[Sample],
    sounds: Sequence[np.ndarray],
    sampling: dict[str, Any],
) -> list[dict[str, Any]]:
    """{"reference", "meta": {"parts", "attempt", "failed"}} of each row."""
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
                    "parts": hearer.parts(sounds[i]),
                    "attempt": attempt + 1,
                    "failed": None if thought.found else text,
                },
            }
        pending = [i for i in pending if rows[i]["reference"] is None]
        if not pending or sampling["temperature"] == 0:  # greedy would say the same again
            break
    return rows


def _inputs_hash(sample: Sample, media: MediaSettings, ear: Ear | None, provenance: dict[str, Any]) -> str:
    """Of all that a row's reference is made from."""
    revision = provenance["revision"]
    return _hash(
        cache_key(None, sample.audio, media),
        _prompt(sample),
        "" if revision is not None else ear.name if ear else provenance["model"],
        revision,
        provenance["prompt_hash"],
        provenance["sampling"],
        *([] if ear else [provenance["backend"]]),
    )


def _prompt(sample: Sample) -> str:
    return reference_prompt(sample.question, sample.answer, sample.options)


def _row_seed(seed: int, id: str, attempt: int) -> int:
    return int(_hash(seed, id, attempt)[:15], 16)


def _hash(*values: Any) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _merge(
    samples: Sequence[Sample], out_path: Path, hashes: Mapping[str, str], provenance: dict[str, Any]
) -> list[Sample]:
    """Writes the rows with what the journals hold, in the order of `samples`, and removes the journals."""
    done = _known(out_path, hashes, refused=True)
    if lost := [id for id in hashes if id not in done]:
        raise UserError(
            f"{out_path}: {len(lost)} row(s), the first is {lost[0]!r}, were computed but are in no "
            f"{out_path.name}.partial file; run one command at a time on it, and this one again."
        )
    deaf = {"reference": None, "meta": {**provenance, "failed": "no audio"}}
    filled = []
    for sample in samples:
        row = done.get(sample.id, deaf)
        meta = {**sample.meta, "reference": row["meta"]}
        filled.append(dataclasses.replace(sample, reference=row["reference"], meta=meta))
    write_jsonl(out_path, filled)
    for journal in _journals(out_path):
        journal.unlink(missing_ok=True)
    return filled


def _journal(out_path: Path, rank: int) -> Path:
    """Where a process keeps what it has finished."""
    return out_path.with_name(f"{out_path.name}.partial" + (f".{rank}" if rank else ""))


def _journals(out_path: Path) -> list[Path]:
    """All journals there are, of however many processes."""
    found = out_path.parent.glob(glob.escape(f"{out_path.name}.partial") + "*")
    return sorted(p for p in found if re.fullmatch(r"\.partial(\.\d+)?", p.name[len(out_path.name) :]))


def _known(out_path: Path, hashes: Mapping[str, str], refused: bool = False) -> dict[str, dict[str, Any]]:
    """{id: {"reference", "meta"}} of what earlier runs, or this one, finished for the inputs as they are.

    Args:
        out_path: the file to come; its journals are read too.
        hashes: of each row's inputs.
        refused: rows that an endpoint refused count as finished.
    """
    rows: dict[str, dict[str, Any]] = {}
    for path in (out_path, *_journals(out_path)):
        for id, row in _read(path, "reference" if path == out_path else None):
            current = id in hashes and row["meta"].get("inputs_hash") == hashes[id]
            if current and (refused or not row["meta"].get("refused")):
                rows[id] = row
    return rows


def _read(path: Path, field: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, {"reference", "meta"}) of a file's rows, their meta in its `field` where that is given; lines that
    cannot be read are as if they were not there."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            row = json.loads(line)
            meta = row["meta"][field] if field else row["meta"]
            if isinstance(meta, dict):
                yield str(row["id"]), {"reference": row.get("reference"), "meta": meta}


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[Callable[[list[dict]], None]]:
    """Yields a function that appends JSON objects, a line each, in one go: a process that is killed leaves
    all of a batch or none; a line that a failing disk cut off is read by nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("ab", buffering=1 << 20)

    def append(rows: list[dict]) -> None:
        try:
            stream.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
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


def _check_length(sample: Sample, seconds: float, ear: Ear | None, window: float | None) -> None:
    """Refuses a sound of several parts where the model takes one."""
    longest = min((w for w in (window, ear.window if ear else None) if w), default=None)
    if ear is not None and ear.one_item and longest is not None and seconds > longest:
        raise UserError(
            f"{sample.audio}: lasts {seconds:.0f} s, and the reference model {ear.name!r} takes one sound of "
            f"at most {longest:g} s in a message; set media_audio_seconds to at most that, or take row "
            f"{sample.id!r} out."
        )


def _check(
    samples: Sequence[Sample],
    batch_size: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    attempts: int,
    dtype: str | None,
    backend: str,
    window: float | None,
) -> None:
    wrong = [
        (batch_size >= 1, "batch_size", batch_size, "at least 1"),
        (temperature >= 0, "temperature", temperature, "0 (greedy) or above"),
        (0 < top_p <= 1, "top_p", top_p, "above 0 and at most 1"),
        (max_new_tokens >= 1, "max_new_tokens", max_new_tokens, "at least 1"),
        (attempts >= 1, "attempts", attempts, "at least 1"),
        (dtype in (None, "float32", "bfloat16", "float16"), "dtype", dtype, "float32, bfloat16 or float16"),
        (backend in BACKENDS, "backend", backend, " or ".join(BACKENDS)),
        (window is None or window >= 1, "window", window, "at least 1 second, or none"),
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
