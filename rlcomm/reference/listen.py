"""Every row's text, by a model that hears.

    rows, their sounds --> model.write(sounds, prompts, seeds) --> <a-think> ... </a-think>, or again --> keep

A local model gets batches, one behind an endpoint several rows at once.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from rlcomm import llm_api, steps
from rlcomm.data.sample import Sample
from rlcomm.reference.audio_model import AudioModel
from rlcomm.reference.partial import Row
from rlcomm.reference.prompts import reference_prompt
from rlcomm.reference.remote import RemoteAudioModel

Model = AudioModel | RemoteAudioModel


@dataclass(frozen=True)
class Listening:
    """How one run listens: the same for all its rows.

    Attributes:
        sampling: temperature, top_p, max_new_tokens, attempts, seed.
        sound: the sound of a row, (N,) float32 at the model's rate.
        keep: puts finished rows on disk.
        tried: how many texts earlier runs made of a row, by id; the seeds go on from there.
        accept: whether the text inside <a-think> will do.
    """

    sampling: dict[str, Any]
    sound: Callable[[Sample], np.ndarray]
    keep: Callable[[Sequence[Sample], Sequence[Row]], None]
    tried: Mapping[str, int]
    accept: Callable[[str], bool]


def by_batches(
    batches: Sequence[Sequence[Sample]], model: AudioModel, how: Listening, progress: bool
) -> None:
    """Every batch by a local model, which is freed at the end."""
    try:
        with tqdm(total=sum(map(len, batches)), desc="reference", disable=not progress) as bar:
            for batch in batches:
                how.keep(batch, texts(model, batch, [how.sound(sample) for sample in batch], how))
                bar.update(len(batch))
    finally:
        model.close()


def at_once(samples: Sequence[Sample], model: RemoteAudioModel, how: Listening) -> None:
    """Every row by a model behind an endpoint, several at once.

    Raises:
        UserError: as `rlcomm.llm_api.ask_each`; or many rows in a row were refused.
    """
    lock = threading.Lock()
    refused = 0  # in a row

    def work(id: str, sample: Sample) -> bool | None:
        nonlocal refused
        audio = how.sound(sample)
        try:
            [row] = texts(model, [sample], [audio], how)
        except llm_api.Failure as failure:
            if failure.scope != "item":
                raise
            meta = {"failed": f"refused: {failure.why}", "refused": True}
            row = {"reference": None, "meta": {"parts": model.parts(audio), "attempt": 1, **meta}}
        with lock:
            how.keep([sample], [row])
            refused = refused + 1 if "refused" in row["meta"] else 0
            if refused >= llm_api.DOWN:
                raise llm_api.Failure(
                    f"{model.asking.who} {model.asking.model!r}: {refused} rows in a row were "
                    f"{row['meta']['failed']}; name a model that takes input_audio, or mend the setting that "
                    "it refuses",
                    "run",
                )
        return None if "refused" in row["meta"] else True

    llm_api.ask_each({sample.id: sample for sample in samples}, work, model.asking)


def texts(model: Model, batch: Sequence[Sample], sounds: Sequence[np.ndarray], how: Listening) -> list[Row]:
    """The rows of a batch; one without a readable <a-think> is written anew, with another seed each time.

    Returns:
        {"reference", "meta": {"parts", "attempt" (texts made so far), "failed" (the text that will not do)}}.
    """
    rows: list[Row] = [{} for _ in batch]
    pending = list(range(len(batch)))
    for attempt in range(how.sampling["attempts"]):
        numbers = [how.tried.get(batch[i].id, 0) + attempt for i in pending]
        written = model.write(
            [sounds[i] for i in pending],
            [prompt(batch[i]) for i in pending],
            [_seed(how.sampling["seed"], batch[i].id, n) for i, n in zip(pending, numbers, strict=True)],
            how.sampling,
        )
        for i, number, text in zip(pending, numbers, written, strict=True):
            thought = steps.parse(text).audio
            fine = thought.found and how.accept(thought.text)
            meta = {
                "parts": model.parts(sounds[i]), "attempt": number + 1, "failed": None if fine else text,
            }  # fmt: skip
            rows[i] = {"reference": thought.text if fine else None, "meta": meta}
        pending = [i for i in pending if rows[i]["reference"] is None]
        if not pending or how.sampling["temperature"] == 0:  # greedy would say the same again
            break
    return rows


def prompt(sample: Sample) -> str:
    """The words that go with a row's sound."""
    return reference_prompt(sample.question, sample.answer, sample.options)


def digest(*values: Any) -> str:
    """32 hex digits of JSON values."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _seed(seed: int, id: str, attempt: int) -> int:
    return int(digest(seed, id, attempt)[:15], 16)
