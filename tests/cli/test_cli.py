"""The command line: instant help, and mistakes in one sentence with exit code 2."""

import importlib.metadata
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from tqdm.auto import tqdm

from rlcomm.cli import main, show, train
from rlcomm.data.sample import write_jsonl
from rlcomm.stages.pipeline import _overrides
from rlcomm.utils.errors import UserError
from rlcomm.utils.shipped import shipped

COMMANDS = [
    "quickstart",
    "train",
    "pipeline",
    "reference",
    "eval",
    "audit",
    "export",
    "doctor",
    "show",
    "data",
    "bench",
    "diagnose",
    "recipes",
]
HEAVY = {"torch", "transformers", "trl", "numpy", "av", "datasets", "yaml"}


def told(capsys, *argv: str) -> str:
    """The one sentence on stderr of a command that the user got wrong."""
    capsys.readouterr()
    assert main(list(argv)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rlcomm: ")
    return lines[0].removeprefix("rlcomm: ")


# -- help ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("installed", [True, False])
def test_the_version_is_that_of_the_package_and_its_lack_breaks_nothing(capsys, monkeypatch, installed):
    if not installed:

        def version(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    said = capsys.readouterr().out.strip()
    assert said.endswith("not installed") or said == f"rlcomm {importlib.metadata.version('rlcomm')}"


def test_help_is_instant_and_imports_nothing_heavy():
    code = (
        "import json, sys, time\n"
        "from rlcomm.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as stop:\n"
        "    print(json.dumps([stop.code, time.process_time(), sorted(sys.modules)]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, seconds, modules = json.loads(done.stderr)
    assert status == 0
    assert seconds < 1.0  # of the processor, so that a busy machine does not fail the test
    assert not HEAVY & set(modules)
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [[c] for c in COMMANDS]
    + [["data", c] for c in ("orchestra", "import", "check")]
    + [["bench", c] for c in ("gacl", "step")]
    + [["recipes", c] for c in ("list", "copy")],
)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert f"rlcomm {' '.join(command)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv", [[], ["trian", "x.yaml"], ["show", "x", "--loud"], ["data", "import", "csv", "x"]]
)
def test_a_command_line_that_cannot_be_read_exits_with_2(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "rlcomm" in capsys.readouterr().err


# -- codes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("x: was set; it cannot work; do y."), 2, "rlcomm: x: was set; it cannot work; do y."),
        (KeyboardInterrupt(), 130, "rlcomm: interrupted; run the same command again"),
        (
            OSError(28, "No space left on device", "/disk/a"),
            2,
            "/disk/a: could not be written (No space left",
        ),
    ],
)
def test_what_ends_a_command_is_one_sentence(capsys, monkeypatch, tmp_path, error, code, words):
    def command(arguments, rest):
        raise error

    monkeypatch.setattr(show, "_show", command)
    assert main(["show", str(tmp_path)]) == code
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch, tmp_path):
    def command(arguments, rest):
        raise ZeroDivisionError

    monkeypatch.setattr(show, "_show", command)
    with pytest.raises(ZeroDivisionError):
        main(["show", str(tmp_path)])


# -- mistakes ------------------------------------------------------------------------------------------------


def recipe(tmp_path, text: str) -> str:
    (tmp_path / "recipe.yaml").write_text(text)
    return str(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("command", ["train", "pipeline", "reference", "eval"])
def test_a_missing_recipe(capsys, tmp_path, command):
    missing = str(tmp_path / "missing.yaml")
    assert told(capsys, command, missing).startswith(f"{missing}: cannot be read")


def test_an_unknown_key_in_the_file_and_on_the_command_line(capsys, tmp_path):
    path = recipe(tmp_path, "stage: sft\ndataset: x\nbf16: false\nlearningrate: 1\n")
    assert "did you mean 'learning_rate'?" in told(capsys, "train", path)
    path = recipe(tmp_path, "stage: sft\ndataset: x\nbf16: false\n")
    assert "did you mean 'max_steps'?" in told(capsys, "train", path, "--max_step", "3")


def test_a_value_out_of_range(capsys, tmp_path):
    path = recipe(tmp_path, "stage: ans_co\ndataset: x\nbf16: false\n")
    message = told(capsys, "train", path, "--ansco_lambda", "-1")
    assert message == f"{path}: ansco_lambda is -1.0, which is out of range; it must be at least 0."


def test_an_impossible_batch(capsys, tmp_path):
    path = recipe(tmp_path, "stage: step_rr\ndataset: x\nbf16: false\nper_device_train_batch_size: 8\n")
    message = told(capsys, "train", path, "--num_generations", "6")
    assert "num_generations 4 or 8, or per_device_train_batch_size 6 or 12" in message


@pytest.mark.parametrize(
    ("command", "stage", "keys", "use"),
    [
        ("train", "eval", "eval_data: d", "rlcomm eval"),
        ("train", "reference", "dataset: x\noutput: y", "rlcomm reference"),
        ("train", "pipeline", "stages: [a.yaml]", "rlcomm pipeline"),
        ("eval", "sft", "dataset: x\nbf16: false", "rlcomm train"),
        ("reference", "sft", "dataset: x\nbf16: false", "rlcomm train"),
        ("pipeline", "reference", "dataset: x\noutput: y", "rlcomm reference"),
    ],
)
def test_a_recipe_of_another_command_names_the_right_one(capsys, tmp_path, command, stage, keys, use):
    assert use in told(capsys, command, recipe(tmp_path, f"stage: {stage}\n{keys}\n"))


def test_show_wants_a_finished_pipeline(capsys, tmp_path):
    assert "has no summary.json" in told(capsys, "show", str(tmp_path))


def test_data_check_lists_every_problem_and_fails(capsys, tmp_path, clip_rows):
    write_jsonl(tmp_path / "rows.jsonl", clip_rows[:2])
    assert main(["data", "check", str(tmp_path / "rows.jsonl"), "--workers", "1"]) == 0
    lines = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(
        lines + '{"id": "z", "video": "gone.mp4", "question": "q", "answer": "a"}\n{}\n'
    )
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path / "rows.jsonl"), "--workers", "1"]) == 2
    said = capsys.readouterr()
    assert "gone.mp4" in said.out
    assert "row 4" in said.out
    assert "listed above" in said.err


def test_dotted_keys_of_a_pipeline_are_told_from_its_own():
    dotted, plain = train.split_dotted(
        [
            "--seed",
            "1",
            "--step_rr.max_steps",
            "100",
            "--ans_co.rewards",
            "format",
            "arr",
            "--data=d",
            "--a.b=c",
        ]
    )
    assert dotted == ["step_rr.max_steps=100", "ans_co.rewards=format arr", "a.b=c"]
    assert plain == ["--seed", "1", "--data=d"]


def test_words_with_blanks_reach_a_stage_whole():
    words = ["--ans_co.dataset", "my rows.jsonl", "--ans_co.eval_data", "", "--ans_co.a=b c"]
    dotted, _ = train.split_dotted(words)
    given = _overrides(SimpleNamespace(overrides=dotted), "ans_co")
    assert given == ["--dataset", "my rows.jsonl", "--eval_data", "", "--a", "b c"]


def test_the_last_word_does_not_stand_behind_a_bar(capfd, monkeypatch, tmp_path):
    """Ctrl-C in training leaves transformers' bar open, in the middle of its line."""
    open_bars = []

    def command(arguments, rest):
        open_bars.append(tqdm(total=300))
        raise KeyboardInterrupt

    monkeypatch.setattr(show, "_show", command)
    assert main(["show", str(tmp_path)]) == 130
    lines = capfd.readouterr().err.split("\n")
    assert "0/300" in lines[0]
    assert [line for line in lines if line.startswith("rlcomm: interrupted")]


# -- recipes -------------------------------------------------------------------------------------------------


def test_recipes_are_listed_with_what_they_are(capsys):
    assert main(["recipes", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("orchestra/step_rr.yaml ")]
    assert line.split("  ", 1)[1].strip().startswith("Step-RR: GRPO with r_format")
    assert sum(line.split(" ")[0].endswith(".yaml") for line in lines) == len(
        list(shipped("recipes").rglob("*.yaml"))
    )


@pytest.mark.parametrize(
    ("name", "to", "made"),
    [
        ("orchestra/ablation", None, "recipes/orchestra/ablation/sft_only.yaml"),
        ("recipes/orchestra/warmup.yaml", "mine.yaml", "mine.yaml"),
        ("launch", "how", "how/zero2.yaml"),
    ],
)
def test_recipes_are_copied_to_be_changed(capsys, tmp_path, monkeypatch, name, to, made):
    monkeypatch.chdir(tmp_path)
    command = ["recipes", "copy", name, *(["--to", to] if to else [])]
    assert main(command) == 0
    original = {
        "recipes/orchestra/ablation/sft_only.yaml": "recipes/orchestra/ablation/sft_only.yaml",
        "mine.yaml": "recipes/orchestra/warmup.yaml",
        "how/zero2.yaml": "launch/zero2.yaml",
    }[made]
    assert (tmp_path / made).read_bytes() == shipped(original).read_bytes()
    assert "exists already" in told(capsys, *command)  # one's own changes are never overwritten


def test_a_recipe_that_is_not_shipped_cannot_be_copied(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is not among the files that rlcomm ships" in told(capsys, "recipes", "copy", "orchestre")


def test_a_shipped_recipe_is_found_from_anywhere(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = told(capsys, "eval", "recipes/orchestra/warmup.yaml")
    assert "is a warmup recipe, which `rlcomm eval` cannot run" in message
