"""Stages side by side: means over seeds by hand, what is missing, and the command."""

import json

import pytest

from rlcomm.cli import main
from rlcomm.diagnostics import patching, probes, run, seeds
from rlcomm.diagnostics.compare import Run
from rlcomm.reports.tables import DASH
from tests.diagnostics.conftest import MEDIA


def metric(value):
    return {"value": value, "n": 4, "ci95": None}


def diagnosis(flips=None, spearman=None, accuracies=()):
    layers = {str(i): {"acc": metric(value), "auc": metric(0.5)} for i, value in enumerate(accuracies)}
    patched = {"groups": {"answer": metric(0.9), "audio": metric(0.0)}, "spearman": metric(spearman)}
    return {
        "model": "m",
        "balance": {} if flips is None else {"sign_flip_rate": metric(flips)},
        "patching": {"text": patched},
        "probes": {"all": {"linear": layers}} if layers else {},
    }


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells}


def test_means_over_seeds_by_hand():
    base = [Run("base", diagnosis(flips, 0.9, (0.5, 0.7)), []) for flips in (0.1, 0.2, 0.3)]
    tuned = [Run("tuned/0", diagnosis(0.05, None), []), Run("tuned/1", diagnosis(None, 0.8), [])]
    found = rows(seeds.format_stages({"base": base, "tuned": tuned}))
    assert found["figure"] == ["published", "base (n = 3)", "tuned (n = 2)"]
    # 10, 20, 30: s = 10, half width 4.303 x 10 / sqrt(3) = 24.84
    assert found["sign flips, %"] == ["64.1", "20.0 [-4.8, 44.8]", "5.0 (1 of 2)"]
    assert found["patching, text left out: Spearman of displacements"] == ["0.93", "0.90", "0.80 (1 of 2)"]
    assert found["patching, text left out: recovery at answer"] == ["0.51 to 1.00", "0.90", "0.90"]
    assert found["linear probe, mean of layers, %"] == [DASH, "60.0", DASH]
    assert not any("picture left out" in title or "R_TP" in title for title in found)  # nobody measured them


def filled(found):
    """Every metric of a diagnosis with a value: of four clips many are undefined."""
    if not isinstance(found, dict):
        return found
    return metric(0.5) if found.keys() == {"value", "n", "ci95"} else {k: filled(v) for k, v in found.items()}


def test_the_figures_read_what_the_parts_write(policy, sets, tmp_path, monkeypatch):
    """Trap: a part that renames what it writes, and a table that silently loses its row."""
    monkeypatch.setattr(patching, "MIN_GAP", 1e-9)
    monkeypatch.setattr(probes, "TREES", 3)
    found = run.diagnose(policy, sets, run.Plan(media=MEDIA, batch_size=8), tmp_path, progress=False)
    table = rows(seeds.format_stages({"base": [Run("base/0", filled(found), [])]}))
    assert [title for title, *_ in seeds.FIGURES] == list(table)[2:]  # after the head and its line


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_command(seed, tmp_path, capsys):
    for stage, flips in (("base", 0.9), ("ans_co", 0.1)):
        (tmp_path / stage / seed).mkdir(parents=True)
        (tmp_path / stage / seed / "diagnosis.json").write_text(json.dumps(diagnosis(flips, 0.9)))
    folders = [str(tmp_path / stage / seed) for stage in ("base", "ans_co")]
    assert main(["show", "--seeds", *folders]) == 0
    assert rows(capsys.readouterr().out)["sign flips, %"] == ["64.1", "90.0", "10.0"]
    assert main(["show", "--seeds", str(tmp_path)]) == 2
    assert "has no diagnosis.json" in capsys.readouterr().err
