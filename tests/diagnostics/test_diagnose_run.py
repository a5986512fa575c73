"""The command: whole bytes over an interruption and over several processes, parts, page, mistakes."""

import dataclasses
import json
import re
import subprocess
import sys
import types

import pytest

from rlcomm.cli import main
from rlcomm.config.during import DIAGNOSES
from rlcomm.diagnostics import compare, flips, probes, reliance, run
from rlcomm.diagnostics.run import Plan
from rlcomm.evaluation import catalog, runner
from rlcomm.utils.errors import UserError
from tests.conftest import fresh
from tests.diagnostics.conftest import BENCHMARKS, MEDIA

WHICH = ("flips", "reliance")
WRITTEN = ("diagnosis.json", "diagnosis.html", "flips.jsonl", "reliance.jsonl")


def plan(**options) -> Plan:
    return Plan(**{"which": WHICH, "batch_size": 8, "media": MEDIA, **options})


def diagnose(policy, sets, out, **options):
    return run.diagnose(policy, sets, plan(**options), out, progress=False)


def written(out) -> list[bytes]:
    return [(out / name).read_bytes() for name in WRITTEN]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(run, "BLOCK", 1)


@pytest.fixture(scope="module")
def whole(loaded, diagnosed_world, tmp_path_factory):
    """A diagnosis made in one go, in blocks of one clip: what it found, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "BLOCK", 1)
        return diagnose(fresh(loaded), catalog.open_sets(diagnosed_world, BENCHMARKS), folder), folder


def blocks_of(sets) -> int:
    return sum(len(run.blocks(run.units(name, sets, plan()), 1)) for name in WHICH)


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_an_interrupted_diagnosis_ends_in_the_same_bytes(
    stop, policy, sets, whole, tmp_path, monkeypatch, small_blocks
):
    measures = {"flips": flips.measure, "reliance": reliance.measure}
    calls: list[str] = []

    def counting(name, last):
        def measure(*args, **kwargs):
            if len(calls) == last:
                raise KeyboardInterrupt
            calls.append(name)
            return measures[name](*args, **kwargs)

        return measure

    for module in (flips, reliance):
        name = module.__name__.split(".")[-1]
        monkeypatch.setattr(module, "measure", counting(name, stop))
    with pytest.raises(KeyboardInterrupt):
        diagnose(policy, sets, tmp_path / "cut")
    assert not (tmp_path / "cut" / "diagnosis.json").exists()
    calls.clear()
    for module in (flips, reliance):
        monkeypatch.setattr(module, "measure", counting(module.__name__.split(".")[-1], -1))
    diagnose(policy, sets, tmp_path / "cut")
    assert len(calls) == blocks_of(sets) - stop  # what was done is not done again
    assert written(tmp_path / "cut") == written(whole[1])
    assert not (tmp_path / "cut" / "measured").exists()


@pytest.fixture(scope="module")
def inside(loaded, diagnosed_world, tmp_path_factory):
    """The folder of a whole diagnosis of patching and probes."""
    folder = tmp_path_factory.mktemp("inside")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "BLOCK", 1)
        patched.setattr(probes, "TREES", 3)
        sets = catalog.open_sets(diagnosed_world, BENCHMARKS)
        diagnose(fresh(loaded), sets, folder, which=("patching", "probes"))
    return folder


@pytest.mark.parametrize("cut", ["patching", "probes"])
def test_patching_and_probes_interrupted_end_in_the_same_bytes(
    cut, policy, sets, inside, tmp_path, monkeypatch, small_blocks
):
    """Trap: hidden states or patches that change a little on their way through the journal."""
    monkeypatch.setattr(probes, "TREES", 3)
    options = {"which": ("patching", "probes")}
    part = run.part_of(cut)
    measure, calls = part.measure, []

    def counting(*args, **kwargs):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(cut)
        return measure(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(part, "measure", counting)
        with pytest.raises(KeyboardInterrupt):
            diagnose(policy, sets, tmp_path / "cut", **options)
    diagnose(policy, sets, tmp_path / "cut", **options)
    for name in ("diagnosis.json", "diagnosis.html", "patching.jsonl", "probes.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (inside / name).read_bytes(), name


def test_a_diagnosis_cut_off_while_it_is_written_ends_in_the_same_bytes(
    policy, sets, whole, tmp_path, monkeypatch, small_blocks
):
    """Trap: everything is measured, one of the files is written, and the journal is gone too early."""
    from rlcomm.reports import diagnosis as report

    with monkeypatch.context() as patched:
        patched.setattr(report, "write_report", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            diagnose(policy, sets, tmp_path / "cut")
    diagnose(policy, sets, tmp_path / "cut")
    assert written(tmp_path / "cut") == written(whole[1])


def test_processes_that_share_the_blocks_give_the_same_bytes(policy, sets, whole, tmp_path, small_blocks):
    asked = json.loads(json.dumps(dataclasses.asdict(plan())))
    journal = runner.claim(tmp_path / "two" / "measured", policy, sets, asked)
    todo = run.batches(policy, sets, plan())
    parts = []
    for rank in (0, 1):
        mine = todo[rank::2]
        rows = runner.measured(policy.model, [batch for _, batch in mine], journal, progress=False)
        parts.append(
            [(name, record) for (name, _), block in zip(mine, rows, strict=True) for record in block]
        )
    for name in WHICH:
        keys = [{record["key"] for own, record in part if own == name} for part in parts]
        assert keys[0].isdisjoint(keys[1])
        assert all(keys)
    diagnose(policy, sets, tmp_path / "two")
    assert written(tmp_path / "two") == written(whole[1])


def test_a_journal_of_another_diagnosis_is_refused(policy, sets, tmp_path, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(flips, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        diagnose(policy, sets, tmp_path)
    with pytest.raises(UserError, match=r"holds the scores of another evaluation.*\(seed differ\)"):
        diagnose(policy, sets, tmp_path, seed=1)


def test_diagnosis_json_holds_values_and_no_times(sets, whole):
    found, folder = whole
    assert found == json.loads((folder / "diagnosis.json").read_text())
    assert list(found) == ["model", "settings", "items", "balance", "flips", "reliance"]
    assert found["items"] == {"flips": 14, "reliance": 6}  # 4 x 2 senses and 2 x 3 texts; 4 and 2 neutral
    assert set(found["balance"]) <= {
        "audio_reliance", "visual_reliance", "text_prior", "sign_flip_rate", "muted_acc",
    }  # fmt: skip
    text = (folder / "diagnosis.json").read_text()
    assert not re.search(r"seconds\"|time|date", text.replace("audio_seconds", ""))
    keys = [json.loads(line)["key"] for line in (folder / "flips.jsonl").read_text().splitlines()]
    assert keys == [one.key for one in run.units("flips", sets, plan())]  # in the order of the files


def test_the_page_needs_nothing_else(policy, sets, whole, tmp_path):
    earlier = [compare.load(whole[1])]
    run.diagnose(policy, sets, plan(), tmp_path / "tuned", before=earlier, progress=False)
    text = (tmp_path / "tuned" / "diagnosis.html").read_text()
    assert not re.search(r"<script|src=|href=|@import|url\(", text)
    for words in ("Before and after", "Was the evidence missing", "needs the sense", "<svg"):
        assert words in text
    assert "Before and after" not in (whole[1] / "diagnosis.html").read_text()


def test_a_part_that_records_strangely_is_still_put_in_order(policy, sets, tmp_path, monkeypatch):
    """The seam to the other parts: measure, summary and section, and nothing more of a module."""
    part = types.SimpleNamespace(
        measure=lambda policy, items, *, pairs, batch_size, seed: [one.fields() for one in items],
        summary=lambda records: {"n": {"value": float(len(records)), "n": len(records), "ci95": None}},
        section=lambda summary, records: [f"{summary['n']['n']} of them"],
    )
    known = run.part_of
    monkeypatch.setattr(run, "part_of", lambda name: part if name == "probes" else known(name))
    found = diagnose(policy, sets, tmp_path, which=("probes",))
    assert found["probes"]["n"]["value"] == 10  # one an item, the usual distractor alone
    assert "10 of them" in (tmp_path / "diagnosis.html").read_text()


def test_the_recipe_knows_the_parts():
    assert DIAGNOSES == run.PARTS


# ------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def command(diagnosed_world, nano_folder, tmp_path):
    def words(*more: str) -> list[str]:
        return [
            "diagnose", "recipes/orchestra/diagnose.yaml", "--model_name_or_path", str(nano_folder),
            "--eval_data", str(diagnosed_world), "--benchmarks", ",".join(BENCHMARKS), "--which",
            "flips,reliance", "--disable_tqdm", "true", "--output_dir", str(tmp_path / "out"), *more,
        ]  # fmt: skip

    return words


def test_the_command_prints_the_balance(command, capsys, tmp_path):
    assert main(command("--eval_max_rows", "1")) == 0
    said = capsys.readouterr().out
    assert "audio" in said
    assert str(tmp_path / "out" / "diagnosis.html") in said
    assert main(["show", str(tmp_path / "out"), str(tmp_path / "out")]) == 0
    assert "items in conflict, before down, after across" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            ["--which", "flips,saliency"],
            "which has 'saliency', which is no part; use some of flips, patching",
        ),
        (["--distractor", "smell"], "distractor is 'smell', which is unknown; use one of auto, text"),
        (["--eval_max_rows", "0"], "eval_max_rows is 0, which is out of range; it must be at least 1"),
        (["--eval_data", "nowhere"], "nowhere/test/avconfuse/muted.json: the file of benchmark avconfuse_m"),
        (["--compare", "nowhere"], "nowhere: has no diagnosis.json, so there is nothing to compare with"),
        (["--benchmark_files", "mcr_aqa"], "benchmark_files has 'mcr_aqa', which is not name=path"),
        (["--model_name_or_path", "nowhere"], "model_name_or_path is 'nowhere', where no folder is; train"),
        (["--whihc", "flips"], "'whihc' is no key of a diagnose recipe; did you mean 'which'?"),
    ],
)
def test_a_mistake_is_one_sentence(more, sentence, command, capsys):
    assert main(command(*more)) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("rlcomm: ") == 1
    assert "Traceback" not in said


def test_a_part_that_is_not_there_is_one_sentence(command, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rlcomm.diagnostics.patching", None)

    def gone(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(run.importlib, "import_module", gone)
    assert main(command("--which", "patching")) == 2
    assert (
        "part 'patching' of a diagnosis is not in this version of rlcomm; leave it out"
        in capsys.readouterr().err
    )


def test_benchmarks_without_an_item_are_one_sentence(policy, sets, tmp_path):
    import dataclasses

    neutral = [s for s in sets[1].samples if s.meta["condition"] == "neutral"]
    with pytest.raises(UserError, match=r"part 'flips' of a diagnosis finds no item .*\(mcr_aqa\)"):
        diagnose(policy, [dataclasses.replace(sets[1], samples=neutral)], tmp_path)


def test_help_is_instant():
    """Trap: a command that imports torch to print its help."""
    script = (
        "import sys\nfrom rlcomm.cli import build_parser\nbuild_parser().format_help()\n"
        "assert 'torch' not in sys.modules and 'rlcomm.diagnostics' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_comparing_needs_a_diagnosis(tmp_path):
    with pytest.raises(UserError, match=r"has no diagnosis\.json"):
        compare.load(tmp_path)
