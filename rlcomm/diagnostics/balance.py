"""The modality balance: five numbers that say which sense a model goes by, for a page and for curves.

    audio_reliance    of the questions answered right, the share lost without the sound     AN / (TS + AN)
    visual_reliance   likewise without the picture
    text_prior        accuracy left with the question alone over that in full               R_TP
    sign_flip_rate    items in conflict whose evidence alone is right and loses, mean over the benchmarks
    muted_acc         accuracy on AV-ConfuseBench's muted items, by the scores of yes and no

A balanced model needs the sense that is asked about, keeps little without any, and flips nowhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.diagnostics.items import Record
from rlcomm.evaluation import metrics
from rlcomm.evaluation.benchmarks import avconfuse
from rlcomm.evaluation.catalog import CONFLICT
from rlcomm.evaluation.margins import right
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import LABEL_SCORED, marked


def of(records: Mapping[str, Sequence[Record]], summaries: Mapping[str, Any]) -> dict[str, Metric]:
    """The numbers that the measured parts give; a part that was not measured has none.

    Args:
        records: of flips and reliance, by part.
        summaries: what they add up to, by part.
    """
    found: dict[str, Metric] = {}
    if (reliance := summaries.get("reliance")) is not None:
        for name, sense in (("audio_reliance", "audio"), ("visual_reliance", "video")):
            if "all" in reliance[sense]:
                found[name] = reliance[sense]["all"]["lost"]
        if "r_tp_text" in reliance["groups"]["all"]:
            found["text_prior"] = reliance["groups"]["all"]["r_tp_text"]
    if (flips := summaries.get("flips")) is not None and flips["macro"]["flip"]["n"]:
        found["sign_flip_rate"] = flips["macro"]["flip"]
    muted = {
        record["id"]: record
        for record in (*records.get("reliance", ()), *records.get("flips", ()))
        if record["task"] == avconfuse.MUTED and record["condition"] == CONFLICT
    }
    if muted:
        found["muted_acc"] = metrics.accuracy(
            [right(r["scores"].get("full") or r["scores"]["joint"], r["gold"]) for r in muted.values()],
            [r["source"] for r in muted.values()],
        )
    return marked(found, LABEL_SCORED)
