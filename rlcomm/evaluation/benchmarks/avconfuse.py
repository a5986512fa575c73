"""AV-ConfuseBench (RL-CoMM, arXiv 2511.10059): is a muted instrument heard, a replaced sound noticed?

muted     "Is there a violin sound?" of a clip whose violin is seen and muted; gold is always "no", so a model
          that always says "no" scores 100 %. It is never reported without its positive control: the same
          question about an instrument of the clip that does sound, gold "yes".
modified  the whole sound is replaced (bird, drill, rain, thunderstorm, wind): "Describe what you see and what
          you hear", judged for hearing and seeing, 0-5 each.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn
from rlcomm.data.vocabulary import Vocabulary
from rlcomm.evaluation import margins, metrics
from rlcomm.evaluation.benchmarks.common import clip_name, clips, gold_yes_no, of, read_whole
from rlcomm.evaluation.judge import halves, judge
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import LABEL_SCORED, Reading, Record

MUTED, CONTROL, MODIFIED = "avconfuse_muted", "avconfuse_control", "avconfuse_modified"


def read_muted(path: str | os.PathLike, video_dir: str | os.PathLike) -> list[Sample]:
    """Reads the official muted file, or a positive control in the same format (gold "yes").

    Args:
        path: JSON list of `{"video_id", "question", "answer": "no", "instruments": "violin, flute",
            "instruments_len": "two"}`; `instruments` may also be a list.
        video_dir: folder of the clips, `<video_id>.mp4`.

    Raises:
        UserError: every wrong row and missing clip, by row and field, in one message.
    """
    find = Finder(video_dir)

    def read(row: dict, wrong: Wrong) -> Sample:
        video_id, question = wrong.text(row, "video_id"), wrong.text(row, "question")
        answer = gold_yes_no(row, "answer", wrong)
        names = row.get("instruments") or []
        names = [n.strip() for n in names.split(",")] if isinstance(names, str) else [str(n) for n in names]
        clip = find(video_id, "video_id", wrong)
        meta = {"video_id": clip_name(clip), "instruments": [n for n in names if n]}
        return Sample(f"{Path(path).stem}-{wrong.row}", (Turn(question, answer),), clip, clip, meta=meta)

    return read_whole(path, read)


def read_modified(path: str | os.PathLike, video_dir: str | os.PathLike) -> list[Sample]:
    """Reads the official modified file.

    Args:
        path: JSON list of `{"video_id", "filename": "combined_000001_bird.mp4", "question", "sound_type":
            "bird", "annotation": "Based on the video, ... Based on the audio, ..."}`.
        video_dir: folder of the clips, named by `filename`.

    Returns:
        Samples whose gold answer is the annotation, with `meta["sound_type"]` and, as far as the annotation's
        video half names known instruments, `meta["visible"]`. `meta["video_id"]` is the file's: the clip
        whose picture it is, shared by the variants with other sounds.

    Raises:
        UserError: every wrong row and missing clip, by row and field, in one message.
    """
    find, vocabulary = Finder(video_dir), Vocabulary.of()

    def read(row: dict, wrong: Wrong) -> Sample:
        video_id, question = wrong.text(row, "video_id"), wrong.text(row, "question")
        sound_type, annotation = wrong.text(row, "sound_type"), wrong.text(row, "annotation")
        clip = find(wrong.text(row, "filename"), "filename", wrong)  # <video_id>.mp4 has its own sound
        seen = vocabulary.claimed(halves(annotation)[1]) - {vocabulary.name(sound_type)}
        meta = {"video_id": video_id, "sound_type": sound_type, "visible": sorted(seen)}
        return Sample(f"{Path(path).stem}-{wrong.row}", (Turn(question, annotation),), clip, clip, meta=meta)

    return read_whole(path, read)


def score_muted(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one muted or control item: `class`, `parsed`, `correct`."""
    from rlcomm.rewards.accuracy import judge

    said, correct = judge(reading.answer, sample)
    return {"class": said, "parsed": said is not None, "correct": correct}


def score_modified(
    sample: Sample,
    reading: Reading,
    prompt_style: str,
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """The scored fields of one modified item: `a_acc`, `v_acc` (0-5), `why`, `parsed`.

    Args:
        sample: of `read_modified`; `meta["visible"]` may be known better than from the annotation.
        reading: its a-think and v-think; under the direct prompt the whole text, parted where it follows the
            form the question asks for ("Based on the video, ... Based on the audio, ...").
        prompt_style: "steps" or "direct".
        vocabulary: the names looked for.
    """
    heard, seen = halves(reading.text) if prompt_style == "direct" else (reading.hearing, reading.seeing)
    judgement = judge(heard, seen, sample.meta["sound_type"], sample.meta["visible"], vocabulary)
    return {
        "a_acc": judgement.a_acc,
        "v_acc": judgement.v_acc,
        "why": judgement.why,
        "parsed": reading.answer is not None,
        "correct": None,
    }


def muted_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """Metrics of `avconfuse_muted`, with the positive control and the same-audio view beside them.

    acc, acc_parsed, unparsed, yes_rate     joint view of the muted items (gold "no")
    control_acc, control_unparsed           joint view of the control items (gold "yes")
    same_audio_*                            the same, the picture left out
    sign_flip_rate                          share of muted items, both answers parsed, whose joint answer is
                                            wrong and whose same-audio answer is right
    sign_flip_rate_margin                   share of muted items with M_A > 0 and M_J < 0, from the scores of
                                            "yes" and "no" under the direct prompt (`margins`)

    Metrics without a record are left out, so a control file that is missing shows as a missing number, not as
    one.
    """
    joint, control = of(records, MUTED, "joint"), of(records, CONTROL, "joint")
    audio, audio_control = of(records, MUTED, "audio_only"), of(records, CONTROL, "audio_only")
    result: dict[str, Metric] = {}
    if joint:
        result["acc"] = metrics.accuracy([r["correct"] for r in joint], clips(joint))
        result["acc_parsed"] = metrics.accuracy_parsed(
            [r["correct"] for r in joint], [r["parsed"] for r in joint], clips(joint)
        )
        result["unparsed"] = metrics.unparsed_rate([r["parsed"] for r in joint], clips(joint))
        result["yes_rate"] = metrics.yes_rate([r["class"] for r in joint], clips(joint))
    for name, part in (("control", control), ("same_audio", audio), ("same_audio_control", audio_control)):
        if part:
            result[f"{name}_acc"] = metrics.accuracy([r["correct"] for r in part], clips(part))
            result[f"{name}_unparsed"] = metrics.unparsed_rate([r["parsed"] for r in part], clips(part))
    by_id = {r["id"]: r for r in audio}
    pairs = [(r, by_id[r["id"]]) for r in joint if r["id"] in by_id]
    if pairs:
        groups = clips([r for r, _ in pairs])
        result["sign_flip_rate"] = margins.sign_flip_rate(
            [_sign(r) for r, _ in pairs], [_sign(a) for _, a in pairs], groups
        )
        leads = [(r.get("margin"), a.get("margin")) for r, a in pairs]
        if any(m is not None for pair in leads for m in pair):
            flips = margins.sign_flip_rate([j for j, _ in leads], [a for _, a in leads], groups)
            result["sign_flip_rate_margin"] = {**flips, "answers": LABEL_SCORED}
    return result


def modified_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """Metrics of `avconfuse_modified`: `a_acc` and `v_acc`, 0-5, and the share without an answer.

    Where a judge model judged, `malformed` is the share of its judgements that could not be read; they are in
    neither score.
    """
    part = of(records, MODIFIED, "joint")
    if not part:
        return {}
    found = {
        "a_acc": metrics.mean([r["a_acc"] for r in part], clips(part)),
        "v_acc": metrics.mean([r["v_acc"] for r in part], clips(part)),
        "unparsed": metrics.unparsed_rate([r["parsed"] for r in part], clips(part)),
    }
    if any(r["a_acc"] is None for r in part):
        found["malformed"] = metrics.mean([r["a_acc"] is None for r in part], clips(part))
    return found


def _sign(record: Record) -> float | None:
    """An answer as a margin: right +1, wrong -1, unparsed: none."""
    if not record["parsed"]:
        return None
    return 1.0 if record["correct"] else -1.0
