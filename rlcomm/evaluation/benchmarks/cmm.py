"""CMM, The Curse of Multi-Modalities (Leng et al., arXiv 2410.12787): is what is not there reported?

2,400 probes of 1,200 samples: one about something present (gold yes), one about something absent (gold no).

    over-reliance_unimodal_priors         overrely_{visual_ignore_audio, audio_ignore_visual,
                                          language_ignore_visual}
    inter-modality_spurious_correlation   visual-language, audio-language, visual-audio-language

PA (perception accuracy) is the accuracy on gold yes, HR (hallucination resistance) that on gold no
(`metrics.perception_accuracy`, `metrics.hallucination_resistance`). The sound of a clip is a file of its own:
the videos have none.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.rows import Finder, Wrong
from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation import metrics
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record

NAME = "cmm"
INSTRUCTION = "Answer with yes or no."  # part of the benchmark's prompt, not of every released file
_SENSES = {"visual": ("video_path",), "audio": ("audio_path",), "visual+audio": ("video_path", "audio_path")}


def read(path: str | os.PathLike, media_dir: str | os.PathLike) -> list[Sample]:
    """Reads the official annotation (`all_data_final_reorg.json`).

    Args:
        path: JSON list or JSON Lines of `{"category", "sub_category", "modality": "visual+audio",
            "granularity": "event-level", "correlation_type", "video_path", "audio_path", "question",
            "answer": "yes"}`; a path that does not apply is null or the text "None".
        media_dir: folder that the paths start at (it holds `reorg_raw_files`).

    Returns:
        Samples with the senses of their `modality`; `meta["pair"]`, the media file, is shared by the two
        probes of one sample.

    Raises:
        UserError: every wrong row and missing file, by row and field, in one message.
    """
    find = Finder(media_dir)

    def read_row(row: dict, wrong: Wrong) -> Sample:
        question, answer = wrong.text(row, "question"), common.gold_yes_no(row, "answer", wrong)
        category, kind = wrong.text(row, "category"), wrong.text(row, "sub_category")
        granularity, modality = wrong.text(row, "granularity"), wrong.text(row, "modality")
        if modality and modality not in _SENSES:
            wrong("modality", f"{modality!r} is none of {', '.join(_SENSES)}")
        media: dict[str, str | None] = {"video_path": None, "audio_path": None}
        for field in _SENSES.get(modality, ()):
            name = row.get(field)
            media[field] = find(wrong.text({field: None if name == "None" else name}, field), field, wrong)
        if INSTRUCTION.lower() not in question.lower():
            question = f"{question} {INSTRUCTION}"
        clip = common.clip_name(media["video_path"] or media["audio_path"])
        return Sample(
            f"{Path(path).stem}-{wrong.row}",
            (Turn(question, answer, type=kind),),
            media["video_path"],
            media["audio_path"],
            meta={
                "video_id": clip,
                "pair": f"{kind}/{clip}",
                "modality": modality,
                "correlation_type": row.get("correlation_type"),
                "groups": {"category": category, "sub_category": kind, "granularity": granularity},
                "candidates": list(common.YES_NO),
            },
        )

    return common.read_whole(path, read_row)


def score(sample: Sample, reading: Reading) -> dict[str, Any]:
    """The scored fields of one item (`common.score`)."""
    return common.score(sample, reading)


def score_metrics(records: Sequence[Record]) -> dict[str, Metric]:
    """`acc`, `unparsed`, `yes_rate`, `pa`, `hr`, and `acc_`, `pa_`, `hr_<value>` of every category,
    sub-category and granularity."""
    part = common.of(records, NAME)
    if not part:
        return {}
    found = common.accuracies(part)
    found["yes_rate"] = metrics.yes_rate([r["class"] for r in part], common.clips(part))
    for value, group in [("", part), *common.by_group(part).items()]:
        found.update(common.perception(group, f"_{value}" if value else ""))
    return found
