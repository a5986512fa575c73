"""`rlcomm reference` on two processes: the bytes of one process, whatever happens on the way."""

import json
import time

import numpy as np
import pytest
import yaml

import rlcomm.utils.torchvision_ops  # noqa: F401

import torch  # isort: skip

from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.data.write_media import write_audio
from rlcomm.reference import listen, partial
from rlcomm.reference.rows import write_references
from tests import forking
from tests.reference.recipes import recipe

ROWS, BATCH, RATE = 12, 2, 16_000
OPTIONS = dict(batch_size=BATCH, temperature=1.5, max_new_tokens=16)

# rlcomm whose process RANK_ENDS ends at its AT-th batch, and which notes the rows that each process writes
NOTED = """
import json, os, signal, sys
from rlcomm.cli import main
from rlcomm.reference import listen
from rlcomm.utils.errors import UserError
rank, texts, batches = os.environ["RANK"], listen.texts, []
def noted(model, batch, *rest):
    batches.append(1)
    if rank == os.environ.get("RANK_ENDS") and len(batches) == int(os.environ["AT"]):
        if os.environ["BY"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("this process gives up.")
    with open(os.environ["NOTES"], "a") as file:
        file.write("".join(f"{rank} {sample.id}\\n" for sample in batch))
    return texts(model, batch, *rest)
listen.texts = noted
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def rows(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(ROWS):
        sound = rng.uniform(-0.3, 0.3, int(RATE * rng.uniform(0.3, 3.0))).astype(np.float32)
        write_audio(tmp_path / f"{i}.wav", sound, RATE)
    rows = [
        Sample(f"r{i}", (Turn("Is there a drum sound?", "no"),), audio=str(tmp_path / f"{i}.wav"))
        for i in range(ROWS)
    ]
    rows.insert(5, Sample("deaf", rows[0].turns))
    return rows


@pytest.fixture
def one_thread():
    """As the launched processes: sums over more threads are rounded otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def journals(out):
    """The finished rows in the journals of a run that was cut off."""
    found = []
    for path in out.parent.glob(f"{out.name}.partial*"):
        found += [json.loads(line)["id"] for line in path.read_text().split("\n") if line.endswith("}")]
    return found


@pytest.fixture
def launch(rows, tmp_path):
    """Runs the command on two processes; returns (return code, stdout + stderr, [(rank, row)] computed)."""
    write_jsonl(tmp_path / "rows.jsonl", rows)
    (tmp_path / "noted.py").write_text(NOTED)
    recipe = {"stage": "reference", "model_name_or_path": "nano_audio", **OPTIONS}
    recipe["dataset"] = str(tmp_path / "rows.jsonl")

    def command(out, **environment):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "output": str(out)}))
        notes = tmp_path / f"notes{time.monotonic_ns()}"
        notes.touch()
        done = forking.command(
            ["reference", tmp_path / "recipe.yaml"], 2, tmp_path / "noted.py",
            {"NOTES": str(notes), **environment},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr, [line.split() for line in notes.open()]

    return command


@pytest.mark.distributed
def test_two_processes_give_the_bytes_of_one(launch, rows, tmp_path, one_thread):
    one, two = tmp_path / "one" / "out.jsonl", tmp_path / "two" / "out.jsonl"
    report = write_references(rows, recipe("nano_audio", one, **OPTIONS), progress=False)
    code, said, computed = launch(two)
    assert code == 0, said[-3000:]
    assert said.count("rows have a reference") == 1  # the first process alone speaks
    assert f"{report['with_reference']} of {ROWS + 1} rows" in said
    assert two.read_bytes() == one.read_bytes()
    assert sorted(row for _, row in computed) == sorted(row.id for row in rows if row.audio)
    assert [sum(rank == which for rank, _ in computed) for which in "01"] == [ROWS // 2] * 2
    assert not list(two.parent.glob("*.partial*"))
    assert json.loads((two.parent / "stage.json").read_text())["rows"] == ROWS + 1
    assert len({row.reference or row.meta["reference"]["failed"] for row in read_jsonl(one)[1:4]}) == 3


@pytest.mark.distributed
def test_a_process_that_fails_ends_all_and_nothing_finished_is_done_again(
    launch, rows, tmp_path, one_thread, monkeypatch
):
    """First the second process gives up, then the first is killed, then one process alone goes on."""
    whole, out = tmp_path / "whole" / "out.jsonl", tmp_path / "out" / "out.jsonl"
    write_references(rows, recipe("nano_audio", whole, **OPTIONS), progress=False)

    code, said, _ = launch(out, RANK_ENDS="1", AT="2", BY="error")
    assert code != 0
    assert "rlcomm: this process gives up." in said
    first = journals(out)
    assert not out.exists()
    assert 2 <= len(set(first)) == len(first) < ROWS

    code, _, computed = launch(out, RANK_ENDS="0", AT="1", BY="kill")
    assert code != 0
    assert not {row for _, row in computed} & set(first)
    second = journals(out)
    assert set(first) <= set(second)
    assert len(second) < ROWS

    third = []
    texts = listen.texts
    monkeypatch.setattr(
        listen, "texts", lambda model, batch, *rest: third.extend(batch) or texts(model, batch, *rest)
    )
    report = write_references(rows, recipe("nano_audio", out, **OPTIONS), progress=False)
    assert {row.id for row in third} == {f"r{i}" for i in range(ROWS)} - set(second)
    assert (report["computed"], report["reused"]) == (ROWS - len(second), len(second))
    assert out.read_bytes() == whole.read_bytes()
    assert not list(out.parent.glob("*.partial*"))


def test_journals_of_any_number_of_processes_are_read_and_no_other_file(tmp_path):
    """A glob alone would also take, and remove, the journal of out.jsonl.partial.1.jsonl."""
    names = ["o[1].jsonl.partial", "o[1].jsonl.partial.3", "o[1].jsonl.partial.12"]
    others = ["o[1].jsonl.partial.1.jsonl.partial", "o1.jsonl.partial", "o[1].jsonl", "o[1].jsonl.partial.x"]
    for name in (*names, *others):
        (tmp_path / name).touch()
    assert {path.name for path in partial.journals(tmp_path / "o[1].jsonl")} == set(names)


@pytest.mark.parametrize("torn", [0, 1])
def test_rows_of_any_journal_count_and_a_torn_one_does_not(rows, tmp_path, one_thread, monkeypatch, torn):
    """What several processes left is taken up by one; the rest is computed beside the same rows as before."""
    whole, out = tmp_path / "whole" / "out.jsonl", tmp_path / "out" / "out.jsonl"
    options = {**OPTIONS, "attempts": 1}
    write_references(rows, recipe("nano_audio", whole, **options), progress=False)
    lines = []
    for row in read_jsonl(whole):
        if row.audio:
            meta = row.meta["reference"]
            lines.append(json.dumps({"id": row.id, "reference": row.reference, "meta": meta}) + "\n")
    out.parent.mkdir()
    out.with_name("out.jsonl.partial.7").write_text(lines[0] + lines[1])
    out.with_name("out.jsonl.partial").write_text(lines[4] + (lines[5][:-9] if torn else lines[5]))
    texts, batches = listen.texts, []
    monkeypatch.setattr(
        listen, "texts", lambda model, batch, *rest: batches.append(batch) or texts(model, batch, *rest)
    )
    report = write_references(rows, recipe("nano_audio", out, **options), progress=False)
    assert report["reused"] == 4 - torn
    # not packed anew: beside other rows a row is padded, and rounded, otherwise
    missing = [[2, 3], *[[5]] * torn, [6, 7], [8, 9], [10, 11]]
    assert [[row.id for row in batch] for batch in batches] == [[f"r{i}" for i in one] for one in missing]
    assert out.read_bytes() == whole.read_bytes()
    assert not list(out.parent.glob("*.partial*"))
