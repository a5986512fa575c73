"""What a policy says: benchmarks asked and answered in its own words, and what the answers add up to.

How stages are evaluated when they end. What decoders would choose instead is `rlcomm.evaluation.conflict`.

    sets -> clip -> EncodedPrompt per view -> greedy completion + label scores -> records -> results, summary
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from rlcomm import steps
from rlcomm.data import controls
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import Sample
from rlcomm.evaluation import catalog, margins, metrics, runner
from rlcomm.evaluation import truth as truths
from rlcomm.evaluation.benchmarks import avconfuse, common, music_avqa
from rlcomm.evaluation.catalog import KINDS, Set
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import GENERATED, Record, marked, read
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError

STYLES = ("steps", "direct")
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


@dataclass(frozen=True)
class Asking:
    """How a policy is asked for its own words.

    Attributes:
        prompt_style: "steps", or "direct" for the answer alone (how an untrained base is scored).
        media: how clips are decoded.
        max_new_tokens: bound of a completion, in tokens.
        batch_size: items a forward.
        cache_dir: of decoded media.
        margins: also score "yes" and "no" for the margins, where an item is asked in several views.
        limit: only the first so many items of each benchmark.
        progress: show a progress bar.
    """

    prompt_style: str = "steps"
    media: MediaSettings = field(default_factory=MediaSettings)
    max_new_tokens: int = 128
    batch_size: int = 16
    cache_dir: str | None = None
    margins: bool = True
    limit: int | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if self.prompt_style not in STYLES:
            raise UserError(f"prompt_style: {self.prompt_style!r} is not a prompt; choose steps or direct.")

    def settings(self) -> dict[str, Any]:
        """What holds for all answers, for the result."""
        return {
            "prompt_style": self.prompt_style,
            "temperature": 0.0,
            "max_new_tokens": self.max_new_tokens,
            "limit": self.limit,
            "margins": "normalised log-probability of yes, no under the direct prompt"
            if self.margins
            else None,
            "media": dataclasses.asdict(self.media),
        }


def evaluate(
    policy: Any,
    benchmarks: Sequence[Set] | str | os.PathLike,
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
        policy: anything with `.model`, `.processor` and `.config`; of `omni.policy.load_policy`, for one.
        benchmarks: what to ask (`catalog.open_sets`), or a data folder for `catalog.benchmarks_in`.
        prompt_style, max_new_tokens, batch_size, cache_dir, margins, limit, progress: as in `Asking`.
        media_settings: how clips are decoded.
        records_path: JSONL for the records, written in one step at the end.
        truth: what really sounds, by video_id: `{"visible", "audible", "ambient", "muted"}`, lists of names.
            Default: `truth.json` of the data folder where there is one; without it `hearing_exact` is null.
        rejudge: scores the records of the modified set anew (`judged.judge_records`).

    Returns:
        `{"model", "decoders": {"greedy": {"settings", "benchmarks": {key: {metric: {"value", "n", "ci95",
        "answers"}}}}}}`. It holds no times, and the same records give the same bytes.
    """
    how = Asking(
        prompt_style, media_settings or MediaSettings(), max_new_tokens, batch_size, cache_dir, margins,
        limit, progress,
    )  # fmt: skip
    sets, truth = _opened(benchmarks, truth)
    records = collect(policy, sets, how, truth)
    if rejudge is not None and processes.rank() == 0:
        records = rejudge(records)
    if records_path is not None and processes.rank() == 0:
        files.write_jsonl(records_path, records)
    return results(records, str(getattr(policy, "path", "")), how.settings(), sets)


def collect(
    policy: Any,
    benchmarks: Sequence[Set] | str | os.PathLike,
    how: Asking | None = None,
    truth: dict[str, dict] | None = None,
) -> list[Record]:
    """The records of `evaluate`: one an item and view, in the order of the files.

    Several processes (accelerate) share the batches, and all of them get all records.
    """
    how = how or Asking()
    sets, truth = _opened(benchmarks, truth)
    sets = [dataclasses.replace(one, samples=catalog.first(one.samples, how.limit)) for one in sets]
    names = truths.names((sample for one in sets for sample in one.samples), truth)
    clips = runner.Clips(how.media, how.cache_dir)
    batches: list[runner.Batch] = []
    for one in sets:
        for name, samples in one.parts().items():
            samples = [_told(sample, truth, names) for sample in samples]
            for part in runner.split(samples, how.batch_size):
                measure = partial(_ask_views, policy, one, name, part, how, clips)
                batches.append(runner.Batch(f"{len(batches):06d}", len(part), name, measure))
    found = runner.shared(policy.model, batches, progress=how.progress)
    records: list[Record] = [record for rows in found or [] for record in rows]
    # a batch holds its views side by side; the file lists one after the other
    order = {(name, view): None for one in sets for name in one.parts() for view in one.views}
    return sorted(records, key=lambda r: list(order).index((r["benchmark"], r["view"])))


def _opened(
    benchmarks: Sequence[Set] | str | os.PathLike, truth: dict[str, dict] | None
) -> tuple[Sequence[Set], dict[str, dict]]:
    if not isinstance(benchmarks, (str, os.PathLike)):
        return benchmarks, truth or {}
    known = truths.read_truth(Path(benchmarks) / "truth.json") if truth is None else truth
    return catalog.benchmarks_in(benchmarks), known


def _told(sample: Sample, truth: dict[str, dict], names: list[str]) -> Sample:
    """The sample with what is known of its clip, for whoever scores it."""
    known = truths.of(sample, truth)
    meta = {**sample.meta, "truth": known, "names": names}
    if known and known.get("visible") is not None:
        meta["visible"] = known["visible"]
    return dataclasses.replace(sample, meta=meta)


def results(
    records: Sequence[Record], model: str, settings: dict[str, Any], sets: Sequence[Set] = ()
) -> dict[str, Any]:
    """Counts records into the `results.json` object of one decoder, greedy (contract: `evaluate`).

    Args:
        records: of `collect`.
        model: its path.
        settings: for the result.
        sets: whose records they are; a benchmark of the catalogue counts its own without.
    """
    counts = {key: kind.count for key, kind in KINDS.items()} | {one.key: one.count for one in sets}
    counted = {}
    for key, count in counts.items():
        if found := count(records):
            part = [r for r in records if _key(r) == key and r["view"] == catalog.JOINT]
            counted[key] = marked({**found, **_reading_metrics(part)}, GENERATED)
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
    counted = {key: KINDS[key].count(records) for key in catalog.OWN}
    found: dict[str, Metric | None] = {
        name: counted[key].get(metric) for name, (key, metric) in SUMMARY.items()
    }
    joint = [r for r in records if r["view"] == catalog.JOINT]
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


def _ask_views(
    policy: Any, one: Set, name: str, samples: Sequence[Sample], how: Asking, clips: runner.Clips
) -> list[Record]:
    """Records of one batch, view by view; a clip is decoded once for all of them."""
    decoded = [clips(sample) for sample in samples]
    return [record for view in one.views for record in _ask(policy, one, name, samples, decoded, view, how)]


def _ask(
    policy: Any,
    one: Set,
    name: str,
    samples: Sequence[Sample],
    clips: Sequence[Clip],
    view: str,
    how: Asking,
) -> list[Record]:
    """Records of one batch in one view; everything that needs the model happens here."""
    from rlcomm.omni.encode import encode
    from rlcomm.omni.rollout import generate
    from rlcomm.omni.score import candidate_scores

    if view == catalog.AUDIO_ONLY:
        samples = [sample.without("video") for sample in samples]
        clips = [controls.changed(clip, "no_video") or clip for clip in clips]
    pairs = list(zip(samples, clips, strict=True))
    prompts = [encode(policy, sample, clip, prompt_style=how.prompt_style) for sample, clip in pairs]
    groups = generate(
        policy.model, policy.processor, prompts, num_generations=1, max_new_tokens=how.max_new_tokens,
        temperature=0.0,
    )  # fmt: skip
    scores: list[list[float] | None] = [None] * len(samples)
    if how.margins and len(one.views) > 1:
        asked = prompts
        if how.prompt_style != "direct":
            asked = [encode(policy, sample, clip, prompt_style="direct") for sample, clip in pairs]
        labels = [list(common.candidates(sample)) for sample in samples]
        scores = list(candidate_scores(policy.model, policy.processor, asked, labels, normalise=True))
    return [
        _record(one, name, sample, group[0], row, view, how.prompt_style)
        for sample, group, row in zip(samples, groups, scores, strict=True)
    ]


def _record(
    one: Set,
    name: str,
    sample: Sample,
    text: str,
    scores: Sequence[float] | None,
    view: str,
    prompt_style: str,
) -> Record:
    from rlcomm.rewards import format as format_reward

    reading = read(text, prompt_style)
    known, labels = sample.meta["truth"], list(common.candidates(sample))
    stepwise = prompt_style == "steps"
    hears = sees = None
    if known is not None and stepwise:
        vocabulary = catalog.vocabulary_of(tuple(sample.meta["names"]))
        sounding = truths.listed(known.get("audible")) + truths.listed(known.get("ambient"))
        hears = vocabulary.exact(reading.hearing, sounding)
        sees = vocabulary.exact(reading.seeing, truths.listed(known.get("visible")))
    about: Record = {
        "benchmark": name,
        "set": one.key,
        "id": sample.meta.get("row", sample.id),
        "video_id": truths.clip_id(sample),
        "video": sample.audio,
        "view": view,
        "prompt_style": prompt_style,
        "question": sample.question,
        "answers": GENERATED,
        "completion": text,
        "answer": reading.answer,
        "gold": sample.answer,
        "a_acc": None,
        "v_acc": None,
        "format_ok": format_reward.score(steps.parse(text), sample) == 1.0 if stepwise else None,
        "hearing": reading.hearing,
        "seeing": reading.seeing,
        "hearing_exact": hears,
        "seeing_exact": sees,
        "scores": {view: None if scores is None else margins.rounded(scores)},
        "margin": None if scores is None else margins.margin(scores, labels.index(sample.answer)),
        "truth": known,
    }
    return about | cast(Record, one.score(sample, reading))


def _reading_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    clips = [r["video_id"] for r in records]
    return {
        "format_rate": metrics.mean([r["format_ok"] for r in records], clips),
        "hearing_exact": metrics.mean([r["hearing_exact"] for r in records], clips),
        "seeing_exact": metrics.mean([r.get("seeing_exact") for r in records], clips),  # not in older files
    }


def _key(record: Record) -> str:
    """The results.json key of a record: the control is reported with the muted set, never apart from it."""
    own = avconfuse.MUTED if record["benchmark"] == avconfuse.CONTROL else record["benchmark"]
    return record.get("set", own)  # older files name the benchmark alone
