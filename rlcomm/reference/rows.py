"""Reference reasoning o_ref: what an audio-language model hears, once per sound and question, before any RL.

    Sample --(its sound alone, split to the model's window)--> Qwen2-Audio, told question and gold answer
           --> <a-think> ... </a-think> --> Sample.reference + meta["reference"] (provenance)

The model is a local one (`rlcomm.reference.audio_model`) or behind an endpoint (`rlcomm.reference.remote`).
The reference does not depend on the policy, so it is a column of the data set and its model is loaded, used
and freed before the policy is. The picture never enters here. (RL-CoMM: one text per row.)

A row is computed only where its inputs changed: the bytes of its sound, question, options, gold answer,
prompt, model, sampling. What is finished is kept in `<output>.partial` until all is, so an interrupted run
goes on from there. Rows of the same inputs (a clip's sound asked the same under another picture) share the
text of the first of them. A text depends on that row's id and the seed, not on the rows beside it.

Several processes (`accelerate launch`) share the batches; each keeps its own in `<output>.partial.<n>`, and
the first writes them all, in the order of the rows: the file is that of one process. They may be stopped and
started again in another number. An endpoint is asked by the first process alone.

`meta["reference"]` of every row: model, revision, prompt_hash, sampling, inputs_hash, parts (audio items
heard), attempt (texts made so far), and `failed`: None, "no audio", or the text that would not do; of an
endpoint also `backend`, and `refused` with the reason in `failed` where it would not answer.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlcomm.config.reference import ReferenceRecipe
from rlcomm.data.clips import cache_key, load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample
from rlcomm.data.vocabulary import Vocabulary
from rlcomm.llm_api import Asking
from rlcomm.reference import listen, partial, remote
from rlcomm.reference.audio_model import AudioModel, AudioModelInfo, audio_model_info
from rlcomm.reference.prompts import reference_prompt
from rlcomm.utils import processes
from rlcomm.utils.errors import UserError


def write_references(
    samples: Sequence[Sample],
    recipe: ReferenceRecipe,
    *,
    accept: Callable[[str], bool] = lambda text: True,
    device: Any = None,
    progress: bool = True,
) -> dict[str, Any] | None:
    """Writes `samples` to `recipe.output` with o_ref filled in, one text per sound and question.

    A row without a usable text after `attempts` tries has no reference; the next run tries it again, with
    other seeds (not where it is greedy).

    Args:
        samples: rows; those without sound stay without reference.
        recipe: model, sampling, output, how much of a sound is heard.
        accept: whether the text inside <a-think> will do.
        device: None: the GPU where there is one. progress: show a bar.

    Returns:
        As `report` gives it, and "computed", "reused" (distinct sounds and questions), "shared" (rows with
        the text of another), "seconds"; None on all processes but the first.

    Raises:
        UserError: an id that occurs twice, a model or a clip that cannot be read, an endpoint that does not
            answer, a full disk.
    """
    started = time.monotonic()
    check_ids(samples)
    rank, world = processes.rank(), processes.world()
    info = None
    if recipe.reference_backend == "transformers":
        info = audio_model_info(recipe.model_name_or_path, recipe.model_revision)
    elif rank != 0:
        return None  # there is nothing to compute, only to wait for
    else:
        world = 1
    heard, provenance = [sample for sample in samples if sample.audio], _provenance(recipe, info)
    state: Any = _take_up(heard, recipe, info, provenance, accept) if rank == 0 else None
    # also: no process writes before the first has read
    hashes, finished, tried = processes.tell(state) if world > 1 else state
    distinct = _distinct(heard, hashes)
    if mine := _batches(distinct, finished, recipe.batch_size)[rank::world]:
        where = partial.journal(Path(recipe.output), rank)
        with partial.appending(where) as append:
            how = _listening(recipe, info, provenance, hashes, tried, append, accept)
            if info is None:
                _listen_far(mine, recipe, how, where, progress)
            else:
                model = AudioModel(info, recipe.dtype, device, recipe.audio_window)
                listen.by_batches(mine, model, how, progress and rank == 0)
    if world > 1:
        processes.wait()
    if rank != 0:
        return None
    filled = partial.merge(samples, Path(recipe.output), hashes, provenance)
    reused = sum(sample.id in finished for sample in distinct)
    counts = {"computed": len(distinct) - reused, "reused": reused, "shared": len(heard) - len(distinct)}
    return {**report(filled, recipe, provenance), **counts, "seconds": round(time.monotonic() - started, 1)}


def report(filled: Sequence[Sample], recipe: ReferenceRecipe, provenance: dict[str, Any]) -> dict[str, Any]:
    """What came of the rows.

    Returns:
        {"rows", "with_reference" (rows ARR can score), "failed": [ids], "no_audio": [ids], "split": rows
        heard in several parts, "hearing_exact": {"value", "n"}, "model", "revision", "out"}.
    """
    return {
        "rows": len(filled),
        "with_reference": sum(sample.reference is not None for sample in filled),
        "failed": [sample.id for sample in filled if sample.audio and sample.reference is None],
        "no_audio": [sample.id for sample in filled if not sample.audio],
        "split": sum(sample.meta["reference"].get("parts", 0) > 1 for sample in filled),
        "hearing_exact": hearing_exact(filled),
        "model": recipe.model_name_or_path, "revision": provenance["revision"], "out": recipe.output,
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


def check_ids(samples: Sequence[Sample]) -> None:
    """Raises a UserError where two rows have one id."""
    for id, times in Counter(sample.id for sample in samples).items():
        if times > 1:
            raise UserError(
                f"Two rows have the id {id!r}, so their references could not be told apart; give every row "
                "its own id."
            )


# ------------------------------------------------------------------------------------------------ inner parts


def _provenance(recipe: ReferenceRecipe, info: AudioModelInfo | None) -> dict[str, Any]:
    """What every row's provenance begins with."""
    sampling: dict[str, Any] = {
        name: getattr(recipe, name) for name in ("temperature", "top_p", "max_new_tokens", "attempts", "seed")
    }
    if recipe.audio_window is not None:
        sampling["window"] = recipe.audio_window
    return {
        "model": recipe.model_name_or_path,
        "revision": info.identity if info else None,
        **({} if info else {"backend": recipe.reference_backend}),
        "prompt_hash": listen.digest(reference_prompt("{q}", "{a}")),
        "sampling": sampling,
    }


def _take_up(
    heard: Sequence[Sample],
    recipe: ReferenceRecipe,
    info: AudioModelInfo | None,
    provenance: dict[str, Any],
    accept: Callable[[str], bool],
) -> tuple[dict[str, str], set[str], dict[str, int]]:
    """The hash of each row's inputs, the rows that are finished, and how often the others were tried."""
    media = _sound_settings(recipe, info)
    hashes = {sample.id: _inputs_hash(sample, media, info, provenance) for sample in heard}

    def settled(row: partial.Row) -> bool:
        if row["reference"] is not None:
            return accept(row["reference"])
        return recipe.temperature == 0 and not row["meta"].get("refused")  # greedy would say the same again

    return hashes, *partial.take_up(Path(recipe.output), hashes, settled)


def _inputs_hash(
    sample: Sample, media: MediaSettings, info: AudioModelInfo | None, provenance: dict[str, Any]
) -> str:
    """Of all that a row's reference is made from."""
    revision = provenance["revision"]
    return listen.digest(
        cache_key(None, sample.audio, media),
        listen.prompt(sample),
        "" if revision is not None else info.name if info else provenance["model"],
        revision,
        provenance["prompt_hash"],
        {
            **provenance["sampling"],
            "attempts": 3,
        },  # how often is no matter; 3 is what older files were made with
        *([] if info else [provenance["backend"]]),
    )


def _sound_settings(recipe: ReferenceRecipe, info: AudioModelInfo | None) -> MediaSettings:
    """How sound is decoded; what concerns frames must not change the hash."""
    given = recipe.media()
    return MediaSettings(
        audio_seconds=given.audio_seconds,
        sampling_rate=info.rate if info else remote.RATE,
        missing_audio=given.missing_audio,
    )


def _distinct(heard: Sequence[Sample], hashes: dict[str, str]) -> list[Sample]:
    """The first row of each sound, question and answer; the others get its text."""
    first: dict[str, Sample] = {}
    for sample in heard:
        first.setdefault(hashes[sample.id], sample)
    return list(first.values())


def _batches(heard: Sequence[Sample], finished: set[str], size: int) -> list[list[Sample]]:
    """What is to be computed. The batches do not depend on what is finished: whoever computes a row, and
    when, the rows beside it are the same, and with them the rounding."""
    batches = [heard[first : first + size] for first in range(0, len(heard), size)]
    return [left for batch in batches if (left := [s for s in batch if s.id not in finished])]


def _listening(
    recipe: ReferenceRecipe,
    info: AudioModelInfo | None,
    provenance: dict[str, Any],
    hashes: dict[str, str],
    tried: dict[str, int],
    append: Callable[[list[dict]], None],
    accept: Callable[[str], bool],
) -> listen.Listening:
    media = _sound_settings(recipe, info)

    def keep(batch: Sequence[Sample], rows: Sequence[partial.Row]) -> None:
        append([
            {"id": sample.id, "reference": row["reference"],
             "meta": {**provenance, "inputs_hash": hashes[sample.id], **row["meta"]}}
            for sample, row in zip(batch, rows, strict=True)
        ])  # fmt: skip

    def sound(sample: Sample) -> np.ndarray:
        audio = load_clip(None, sample.audio, media, recipe.media_cache_dir).audio
        assert audio is not None  # it was asked for: load_clip raises where there is none
        _check_length(sample, len(audio) / media.sampling_rate, info, recipe.audio_window)
        return audio

    return listen.Listening(provenance["sampling"], sound, keep, tried, accept)


def _listen_far(
    batches: Sequence[Sequence[Sample]],
    recipe: ReferenceRecipe,
    how: listen.Listening,
    place: Path,
    progress: bool,
) -> None:
    """Asks a model behind an endpoint."""
    asking = Asking(
        remote.endpoint(), remote.WHO, recipe.model_name_or_path, recipe.timeout, recipe.retries,
        recipe.concurrency, unit="row", made="rows", place=place, progress=progress,
    )  # fmt: skip
    model = remote.RemoteAudioModel(asking, recipe.audio_window)
    listen.at_once([sample for batch in batches for sample in batch], model, how)


def _check_length(sample: Sample, seconds: float, info: AudioModelInfo | None, window: float | None) -> None:
    """Refuses a sound of several parts where the model takes one."""
    longest = min((w for w in (window, info.window if info else None) if w), default=None)
    if info is not None and info.one_item and longest is not None and seconds > longest:
        raise UserError(
            f"{sample.audio}: lasts {seconds:.0f} s, and the reference model {info.name!r} takes one sound "
            f"of at most {longest:g} s in a message; set media_audio_seconds to at most that, or take row "
            f"{sample.id!r} out."
        )


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())
