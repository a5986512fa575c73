"""What a policy says: benchmark files in its own words, one record an item and view, and what they add up to.

How stages are evaluated when they end. What decoders would choose instead is `rlcomm.evaluation.conflict`.

    benchmarks -> clip -> EncodedPrompt per view -> greedy completion + scores -> records -> results, summary

A record is a JSON object: `benchmark, id, video_id, video, view ("joint" | "audio_only"), prompt_style,
question, type, completion, answer, gold, class, parsed, correct, format_ok, hearing, seeing, hearing_exact,
seeing_exact, margin, a_acc, v_acc, why, truth`; what does not apply is null.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rlcomm import steps
from rlcomm.data.clips import load_clip
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import Sample, read_text
from rlcomm.data.vocabulary import Vocabulary
from rlcomm.evaluation import metrics
from rlcomm.evaluation.benchmarks import Benchmark, Reading, Record, avconfuse, music_avqa
from rlcomm.evaluation.margins import margin
from rlcomm.evaluation.metrics import Metric
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError

VIEWS = ("joint", "audio_only")
COUNTED: dict[str, Callable[[Sequence[Record]], dict[str, Metric]]] = {
    "avconfuse_muted": avconfuse.muted_metrics,
    "avconfuse_modified": avconfuse.modified_metrics,
    "music_avqa": music_avqa.score_metrics,
}
# summary.json name -> (benchmark key of results.json, metric)
SUMMARY: dict[str, tuple[str, str]] = {
    "muted_acc": ("avconfuse_muted", "acc"),
    "muted_acc_parsed": ("avconfuse_muted", "acc_parsed"),
    "muted_unparsed": ("avconfuse_muted", "unparsed"),
    "muted_yes_rate": ("avconfuse_muted", "yes_rate"),
    "control_acc": ("avconfuse_muted", "control_acc"),
    "sync_acc": ("music_avqa", "acc"),
    "same_audio_muted_acc": ("avconfuse_muted", "same_audio_acc"),
    "same_audio_control_acc": ("avconfuse_muted", "same_audio_control_acc"),
    "sign_flip_rate": ("avconfuse_muted", "sign_flip_rate"),
    "sign_flip_rate_margin": ("avconfuse_muted", "sign_flip_rate_margin"),
    "modified_a_acc": ("avconfuse_modified", "a_acc"),
    "modified_v_acc": ("avconfuse_modified", "v_acc"),
}


def benchmarks_in(folder: str | os.PathLike, video_dir: str | os.PathLike | None = None) -> list[Benchmark]:
    """The benchmarks that a data folder holds, in the official formats.

        test/avconfuse/{muted,control,modified}.json   test/music_avqa/test.json   clips/<video_id>.mp4

    Args:
        folder: the data folder; any of the four files may be missing, but not all.
        video_dir: folder of the clips, default `folder`/clips.

    Raises:
        UserError: no benchmark file, a muted file without its positive control, or wrong rows.
    """
    test, clips = Path(folder) / "test", Path(video_dir or Path(folder) / "clips")
    muted, modified = (test / "avconfuse" / f"{name}.json" for name in ("muted", "modified"))
    avqa = test / "music_avqa" / "test.json"
    found = []
    if muted.is_file():
        for name, path in ((avconfuse.MUTED, muted), (avconfuse.CONTROL, control_of(muted))):
            found.append(Benchmark(name, avconfuse.read_muted(path, clips), VIEWS, ("yes", "no")))
    if modified.is_file():
        found.append(Benchmark(avconfuse.MODIFIED, avconfuse.read_modified(modified, clips)))
    if avqa.is_file():
        found.append(Benchmark(music_avqa.NAME, music_avqa.read(avqa, clips)))
    if not found:
        raise UserError(
            f"{folder}: holds no benchmark file; give a folder with test/avconfuse/muted.json, "
            "test/avconfuse/modified.json or test/music_avqa/test.json."
        )
    return found


def control_of(muted: Path) -> Path:
    """The positive control beside a muted file.

    Raises:
        UserError: there is none.
    """
    control = muted.with_name("control.json")
    if not control.is_file():
        raise UserError(
            f'{muted}: has no positive control beside it, so always answering "no" would score 100 %; write '
            f"{control.name} in the same format about instruments that do sound."
        )
    return control


def holds_benchmarks(folder: str | os.PathLike) -> bool:
    """Whether `benchmarks_in` would find a file in a data folder."""
    names = ("avconfuse/muted.json", "avconfuse/modified.json", "music_avqa/test.json")
    return any((Path(folder) / "test" / name).is_file() for name in names)


def evaluate(
    policy: Any,
    benchmarks: Sequence[Benchmark] | str | os.PathLike,
    *,
    prompt_style: str = "steps",
    media_settings: MediaSettings | None = None,
    max_new_tokens: int = 128,
    batch_size: int = 16,
    cache_dir: str | None = None,
    records_path: str | os.PathLike | None = None,
    truth: dict[str, dict] | None = None,
    margins: bool = True,
    limit: int | None = None,
    progress: bool = True,
    rejudge: Callable[[list[Record]], list[Record]] | None = None,
) -> dict[str, Any]:
    """Asks every item once, greedily, and counts: the `results.json` object.

    Args:
        policy: of `omni.policy.load_policy`: `.model`, `.processor`, `.path`.
        benchmarks: what to ask, or a data folder for `benchmarks_in`.
        prompt_style: "steps", or "direct" for the answer alone (how an untrained base is scored).
        media_settings: how clips are decoded.
        max_new_tokens: bound of a completion, in tokens.
        batch_size: items a forward.
        cache_dir: of decoded media.
        records_path: JSONL for the records, written in one step at the end.
        truth: what really sounds, by video_id: `{"visible", "audible", "ambient", "muted"}`, lists of names.
            Default: `truth.json` of the data folder where there is one; without it `hearing_exact` is null.
        margins: also score "yes" and "no" for the margins.
        limit: only the first so many items of each benchmark.
        progress: show a progress bar.
        rejudge: scores the records of the modified set anew (`judged.judge_records`).

    Returns:
        `{"model", "decoders": {"greedy": {"settings", "benchmarks": {key: {metric: {"value", "n",
        "ci95"}}}}}}`. It holds no times, and the same records give the same bytes.
    """
    media = media_settings or MediaSettings()
    records = collect(
        policy,
        benchmarks,
        prompt_style=prompt_style,
        media_settings=media,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        cache_dir=cache_dir,
        truth=truth,
        margins=margins,
        limit=limit,
        progress=progress,
    )
    if rejudge is not None and processes.rank() == 0:
        records = rejudge(records)
    if records_path is not None and processes.rank() == 0:
        files.write_jsonl(records_path, records)
    settings = {
        "prompt_style": prompt_style,
        "temperature": 0.0,
        "max_new_tokens": max_new_tokens,
        "limit": limit,
        "margins": "normalised log-probability of yes, no under the direct prompt" if margins else None,
        "media": dataclasses.asdict(media),
    }
    return results(records, str(getattr(policy, "path", "")), settings)


def collect(
    policy: Any,
    benchmarks: Sequence[Benchmark] | str | os.PathLike,
    *,
    prompt_style: str = "steps",
    media_settings: MediaSettings | None = None,
    max_new_tokens: int = 128,
    batch_size: int = 16,
    cache_dir: str | None = None,
    truth: dict[str, dict] | None = None,
    margins: bool = True,
    limit: int | None = None,
    progress: bool = True,
) -> list[Record]:
    """The records of `evaluate` (same arguments): one an item and view, in the order of the files.

    Several processes (accelerate) share the batches, and all of them get all records.
    """
    from tqdm.auto import tqdm

    if prompt_style not in ("steps", "direct"):
        raise UserError(f"prompt_style: {prompt_style!r} is not a prompt; choose steps or direct.")
    if isinstance(benchmarks, (str, os.PathLike)):
        truth = truth if truth is not None else read_truth(Path(benchmarks) / "truth.json")
        benchmarks = benchmarks_in(benchmarks)
    if limit is not None:
        benchmarks = [dataclasses.replace(b, samples=b.samples[:limit]) for b in benchmarks]
    truth = truth or {}
    vocabulary = Vocabulary.of(_names(benchmarks, truth))
    media = media_settings or MediaSettings()
    rank, world = processes.rank(), processes.world()
    placed: list[tuple[tuple[int, int, int], list[Record]]] = []  # (benchmark, view, batch), its records
    with (
        inference(policy.model),
        tqdm(
            total=sum(len(b.samples) * len(b.views) for b in benchmarks),
            desc="evaluate",
            unit="item",
            disable=not progress,
            dynamic_ncols=True,
        ) as bar,
    ):
        for nth, benchmark in enumerate(benchmarks):
            for number, samples in enumerate(batches(benchmark.samples, batch_size)):
                if number % world != rank:
                    bar.update(len(samples) * len(benchmark.views))
                    continue
                # decoded once an item, whatever the views
                clips = [load_clip(s.video, s.audio, media, cache_dir) for s in samples]
                for view, name in enumerate(benchmark.views):
                    bar.set_postfix_str(f"{benchmark.name} {name}", refresh=False)
                    found = _ask(
                        policy,
                        benchmark,
                        samples,
                        clips,
                        name,
                        prompt_style,
                        max_new_tokens,
                        margins,
                        truth,
                        vocabulary,
                    )
                    placed.append(((nth, view, number), list(found)))
                    bar.update(len(samples))
    if world > 1:
        from accelerate.utils import gather_object

        placed = gather_object(placed)
    # batches interleave the views; the file lists one view after the other
    return [record for _, part in sorted(placed, key=lambda item: item[0]) for record in part]


def results(records: Sequence[Record], model: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Counts records into the `results.json` object of one decoder, greedy (contract: `evaluate`)."""
    counted = {}
    for key, count in COUNTED.items():
        if found := count(records):
            part = [r for r in records if _key(r) == key and r["view"] == "joint"]
            counted[key] = {**found, **_reading_metrics(part)}
    return {"model": model, "decoders": {"greedy": {"settings": settings, "benchmarks": counted}}}


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """The `summary.json` row of one stage.

    Returns:
        Rates in [0, 1] (`modified_a_acc` and `modified_v_acc` in [0, 5]); None where nothing applies:
        `muted_acc, muted_acc_parsed, muted_unparsed, muted_yes_rate, control_acc, sync_acc,
        same_audio_muted_acc, same_audio_control_acc, sign_flip_rate, sign_flip_rate_margin, modified_a_acc,
        modified_v_acc`, and over all joint records `format_rate` (the strict format; None under the direct
        prompt) and `hearing_exact` (the a-think names exactly what sounds; None under the direct prompt or
        without truth), `hearing_exact_muted` and `hearing_exact_sync` (on the clips of these alone), and the
        same of what is seen (`seeing_exact...`: the v-think names exactly what is visible). Beside them
        `sync_acc_by_type` {type: rate}, and `ci95` and `n` {name: [lo, hi]}, {name: n}.
    """
    counted = {key: count(records) for key, count in COUNTED.items()}
    found: dict[str, Metric | None] = {
        name: counted[key].get(metric) for name, (key, metric) in SUMMARY.items()
    }
    joint = [r for r in records if r["view"] == "joint"]
    found.update(_reading_metrics(joint))
    for name, benchmark in (("muted", avconfuse.MUTED), ("sync", music_avqa.NAME)):
        part = [r for r in joint if r["benchmark"] == benchmark]
        exact = _reading_metrics(part)
        found |= {f"{sense}_exact_{name}": exact[f"{sense}_exact"] for sense in ("hearing", "seeing")}
    row: dict[str, Any] = {name: metric["value"] if metric else None for name, metric in found.items()}
    row["sync_acc_by_type"] = {
        name.removeprefix("acc_"): metric["value"]
        for name, metric in counted["music_avqa"].items()
        if name.startswith("acc_")
    }
    row["ci95"] = {name: metric["ci95"] for name, metric in found.items() if metric and metric["ci95"]}
    row["n"] = {name: metric["n"] for name, metric in found.items() if metric and metric["n"]}
    return row


def read_records(path: str | os.PathLike) -> list[Record]:
    """Reads the records of an earlier evaluation.

    Raises:
        UserError: the file is missing or a row is not JSON.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # a U+2028 inside a text ends no row
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(
                f"{path}, row {number}: is not valid JSON ({error}); run the evaluation again."
            ) from error
    return rows


def read_truth(path: str | os.PathLike) -> dict[str, dict]:
    """Reads `{video_id: {"visible": [...], "audible": [...], "ambient": [...] or name or null, "muted":
    ...}}`.

    A missing file is no truth: {}.

    Raises:
        UserError: the file is there but not such an object.
    """
    if not Path(path).is_file():
        return {}
    try:
        value = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); build the data again.") from error
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise UserError(f"{path}: must be an object of video_id -> {{visible, audible, ambient, muted}}.")
    return value


def read(completion: str, prompt_style: str) -> Reading:
    """Reads one completion leniently: its answer and what it says it hears and sees (never raises)."""
    answer = steps.answer_of(completion, prompt_style)
    if prompt_style == "direct":
        return Reading(completion, answer, completion, completion)
    parts = steps.parse(completion)
    return Reading(
        completion,
        answer,
        parts.audio.text if parts.audio.found else "",
        parts.video.text if parts.video.found else "",
    )


@contextlib.contextmanager
def inference(model: Any) -> Iterator[None]:
    """No gradients and no dropout; the model is given back in the mode it came in (training)."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _ask(
    policy: Any,
    benchmark: Benchmark,
    samples: Sequence[Sample],
    clips: Sequence[Clip],
    view: str,
    prompt_style: str,
    max_new_tokens: int,
    margins: bool,
    truth: dict[str, dict],
    vocabulary: Vocabulary,
) -> Iterator[Record]:
    """Records of one batch in one view; everything that needs the model happens here."""
    from rlcomm.omni.encode import encode
    from rlcomm.omni.rollout import generate
    from rlcomm.omni.score import candidate_scores

    if view == "audio_only":
        samples = [s.without("video") for s in samples]
        clips = [dataclasses.replace(clip, frames=None) for clip in clips]
    pairs = list(zip(samples, clips, strict=True))
    prompts = [encode(policy, s, clip, prompt_style=prompt_style) for s, clip in pairs]
    texts = [
        group[0]
        for group in generate(
            policy.model,
            policy.processor,
            prompts,
            num_generations=1,
            max_new_tokens=max_new_tokens,
            temperature=0.0,
        )
    ]
    gaps: list[float | None] = [None] * len(samples)
    if margins and benchmark.candidates:
        direct = (
            prompts
            if prompt_style == "direct"
            else [encode(policy, s, clip, prompt_style="direct") for s, clip in pairs]
        )
        labels = list(benchmark.candidates)
        scores = candidate_scores(
            policy.model, policy.processor, direct, [labels] * len(direct), normalise=True
        )
        gaps = [margin(row, labels.index(s.answer)) for s, row in zip(samples, scores, strict=True)]
    for sample, text, gap in zip(samples, texts, gaps, strict=True):
        yield _record(benchmark, sample, text, gap, view, prompt_style, truth, vocabulary)


def _record(
    benchmark: Benchmark,
    sample: Sample,
    text: str,
    gap: float | None,
    view: str,
    prompt_style: str,
    truth: dict[str, dict],
    vocabulary: Vocabulary,
) -> Record:
    from rlcomm.rewards import format as format_reward

    reading = read(text, prompt_style)
    known = _truth_of(sample, truth)
    fields: dict[str, Any] = {"class": None, "type": None, "a_acc": None, "v_acc": None, "why": None}
    if benchmark.name in (avconfuse.MUTED, avconfuse.CONTROL):
        fields.update(avconfuse.score_muted(sample, reading))
    elif benchmark.name == avconfuse.MODIFIED:
        shown = known.get("visible") if known else None
        fields.update(avconfuse.score_modified(sample, reading, prompt_style, vocabulary, shown))
    else:
        fields.update(music_avqa.score(sample, reading))
    stepwise = prompt_style == "steps"
    hears = sees = None
    if known is not None and stepwise:
        sounding = _listed(known.get("audible")) + _listed(known.get("ambient"))
        hears = vocabulary.exact(reading.hearing, sounding)
        sees = vocabulary.exact(reading.seeing, _listed(known.get("visible")))
    return {
        "benchmark": benchmark.name,
        "id": sample.id,
        "video_id": _clip_id(sample),
        "video": sample.audio,
        "view": view,
        "prompt_style": prompt_style,
        "question": sample.question,
        "completion": text,
        "answer": reading.answer,
        "gold": sample.answer,
        **fields,
        "format_ok": format_reward.score(steps.parse(text), sample) == 1.0 if stepwise else None,
        "hearing": reading.hearing,
        "seeing": reading.seeing,
        "hearing_exact": hears,
        "seeing_exact": sees,
        "margin": gap,
        "truth": known,
    }


def _reading_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    clips = [r["video_id"] for r in records]
    return {
        "format_rate": metrics.mean([r["format_ok"] for r in records], clips),
        "hearing_exact": metrics.mean([r["hearing_exact"] for r in records], clips),
        "seeing_exact": metrics.mean([r.get("seeing_exact") for r in records], clips),  # not in older files
    }


def _key(record: Record) -> str:
    """The results.json key of a record: the control is reported with the muted set, never apart from it."""
    return avconfuse.MUTED if record["benchmark"] == avconfuse.CONTROL else record["benchmark"]


def _clip_id(sample: Sample) -> str:
    return str(sample.meta.get("video_id") or Path(sample.audio or sample.video or sample.id).stem)


def _truth_of(sample: Sample, truth: dict[str, dict]) -> dict | None:
    stem = Path(sample.audio or sample.video or "").stem
    return truth.get(stem) or truth.get(_clip_id(sample))  # a variant's own truth before its source's


def _listed(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else [str(v) for v in value]


def _names(benchmarks: Sequence[Benchmark], truth: dict[str, dict]) -> list[str]:
    """Every name the files know, in a fixed order."""
    names = {
        n
        for known in truth.values()
        for field in ("visible", "audible", "ambient", "muted")
        for n in _listed(known.get(field))
    }
    for benchmark in benchmarks:
        for sample in benchmark.samples:
            names.update(sample.meta.get("instruments", []))
    return sorted(names)


def batches(items: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Items in order, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
