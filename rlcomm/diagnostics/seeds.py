"""Stages side by side: the figures of their diagnoses, means over seeds, beside the published ones.

runs/diagnose/<stage>/<seed>  ->  a row a figure, a column a stage
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlcomm.diagnostics.compare import Run
from rlcomm.reports.tables import markdown, mean_of_runs

Reader = Callable[[Mapping[str, Any]], float | None]  # of a diagnosis.json


def value(diagnosis: Any, *path: str) -> float | None:
    """The value of the metric at a path; None where a part was not measured or the metric is undefined."""
    for name in path:
        diagnosis = diagnosis.get(name) if isinstance(diagnosis, Mapping) else None
    return diagnosis["value"] if diagnosis is not None else None


def _at(*path: str) -> Reader:
    return lambda diagnosis: value(diagnosis, *path)


def _probe(name: str) -> Reader:
    """Accuracy of a probe, mean over the layers (the best layer is chosen on what it is measured on)."""

    def read(diagnosis: Mapping[str, Any]) -> float | None:
        layers = diagnosis.get("probes", {}).get("all", {}).get(name, {})
        known = [layer["acc"]["value"] for layer in layers.values() if layer["acc"]["value"] is not None]
        return sum(known) / len(known) if known else None

    return read


def _patched(distractor: str, words: str, spearman: str = "") -> list[tuple[str, Reader, int, str]]:
    said = {"answer": "0.51 to 1.00", "audio": "0.00"} if distractor == "text" else {}
    groups = ("answer", "question", distractor, "audio" if distractor != "audio" else "video")
    rows = [
        (f"patching, {words}: recovery at {group}", _at("patching", distractor, "groups", group), 1,
         said.get(group, ""))
        for group in groups
    ]  # fmt: skip
    correlation = _at("patching", distractor, "spearman")
    return [*rows, (f"patching, {words}: Spearman of displacements", correlation, 1, spearman)]


FIGURES: tuple[tuple[str, Reader, int, str], ...] = (
    ("sign flips, %", _at("balance", "sign_flip_rate"), 100, "64.1"),
    ("muted accuracy, %", _at("balance", "muted_acc"), 100, ""),
    ("audio reliance, %", _at("balance", "audio_reliance"), 100, ""),
    ("visual reliance, %", _at("balance", "visual_reliance"), 100, ""),
    ("R_TP, question alone, %", _at("balance", "text_prior"), 100, ""),
    ("R_TP without the sound, %", _at("reliance", "audio", "all", "r_tp"), 100, "60 to 72"),
    ("XS / AN, sound, %", _at("reliance", "audio", "all", "whole_needed"), 100, "3.0 to 4.2"),
    ("XS / AN, picture, %", _at("reliance", "video", "all", "whole_needed"), 100, ""),
    *_patched("text", "text left out", "0.93"),
    *_patched("video", "picture left out"),
    *(
        (f"{probe} probe, mean of layers{more}, %", _probe(f"{probe}{key}"), 100, "")
        for probe in ("linear", "forest")
        for more, key in (("", ""), (", labels shuffled", "_shuffled"))
    ),
)
"""(title, reader, scale, published): GACL (arXiv 2606.05161) for flips and patching, All That Glitters
(arXiv 2604.24401) for R_TP and XS / AN; other models and data."""


def format_stages(stages: Mapping[str, Sequence[Run]]) -> str:
    """Markdown: every figure that some diagnosis has, the mean of each stage with its 95 % interval over the
    seeds (Student's t).

    Args:
        stages: name -> the diagnoses of its seeds, in the order of the columns.
    """
    heads = ["figure", "published", *(f"{name} (n = {len(runs)})" for name, runs in stages.items())]
    rows = []
    for title, read, scale, published in FIGURES:
        cells = [_cell([read(run.diagnosis) for run in runs], scale) for runs in stages.values()]
        if any(cells):
            rows.append([title, published or None, *cells])
    return markdown(heads, rows)


def _cell(values: Sequence[float | None], scale: int) -> str | None:
    """A mean with its interval; how many runs have the figure, where some do not."""
    known = [scale * one for one in values if one is not None]
    if not known:
        return None
    text = mean_of_runs(known, 1 if scale == 100 else 2)
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)})"
