"""What leaves the machine when a recipe says push_to_hub, and what stays safe when it cannot: no network."""

# ruff: noqa: F811 (fixtures of the stages' tests, by name)

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, RepoUrl

from rlcomm.cli import main
from rlcomm.config.load import load_recipe
from rlcomm.export import hub
from rlcomm.stages import run
from rlcomm.utils.errors import UserError
from tests.stages.conftest import recipe, refused, rows  # noqa: F401


@pytest.fixture
def commits(monkeypatch) -> list[dict]:
    """What would be committed, as huggingface_hub has chosen it; transformers' own pushes fail the test."""
    made: list[dict] = []

    def create_repo(self, repo_id, *, private=None, exist_ok=False, **kwargs):
        assert exist_ok
        made.append({"repo": repo_id, "private": private})
        return RepoUrl(f"https://huggingface.co/someone/{repo_id.split('/')[-1]}")

    def create_commit(self, repo_id, operations, *, commit_message, revision=None, **kwargs):
        files = {op.path_in_repo: Path(op.path_or_fileobj) for op in operations}
        read = {name: path.read_bytes() for name, path in files.items() if name == "README.md"}
        made[-1] |= {
            "files": set(files),
            "to": repo_id,
            "revision": revision,
            "card": read["README.md"].decode(),
        }

    # without hf_xet one commit holds all files, chosen by the same code
    monkeypatch.setattr("huggingface_hub.hf_api.is_xet_available", lambda: False)
    monkeypatch.setattr(HfApi, "_validate_yaml", lambda self, content, **kwargs: None)  # asks the Hub
    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    monkeypatch.setattr(
        "transformers.trainer.hf_api", lambda: pytest.fail("transformers pushes the run folder")
    )
    monkeypatch.setattr(hub, "get_token", lambda: "hf_of_a_test")
    return made


def test_a_finished_model_is_uploaded_and_nothing_else(commits, recipe, tmp_path):
    path = recipe(
        "sft", max_steps=2, push_to_hub=True, hub_model_id="someone/balanced", hub_private_repo=True
    )
    assert main(["train", path]) == 0
    (commit,) = commits
    assert (commit["repo"], commit["to"], commit["private"]) == ("someone/balanced", "someone/balanced", True)
    here = {p.name for p in (tmp_path / "run" / "model").iterdir()}
    assert commit["files"] == here
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= here
    assert (tmp_path / "run" / "checkpoint-2" / "optimizer.pt").exists()  # there is something to leave out
    assert "MODEL = 'someone/balanced'" in commit["card"]
    assert not [p for p in (tmp_path / "run").rglob("*") if p.is_file() and b"hf_of_a_test" in p.read_bytes()]


def test_a_stray_pickle_in_the_model_folder_stays(commits, recipe, tmp_path):
    path = recipe("sft", max_steps=1)
    assert main(["train", path]) == 0
    assert not commits
    (tmp_path / "run" / "model" / "optimizer.pt").write_bytes(b"\x80")
    assert main(["train", path, "--push_to_hub", "true"]) == 0  # finished, published later
    assert commits[0]["repo"] == "run"  # the folder's name, of whoever is logged in
    assert "model.safetensors" in commits[0]["files"]
    assert "optimizer.pt" not in commits[0]["files"]


@pytest.mark.parametrize("failure", ["token", "network"])
def test_a_failed_upload_is_one_sentence_and_costs_only_itself(
    failure,
    commits,
    recipe,
    refused,
    monkeypatch,
    tmp_path,
):
    evaluated = []

    def evaluate(run_dir, *args):
        evaluated.append(run_dir)
        results = {"decoders": {"greedy": {"benchmarks": {"x": {"acc": {"value": 0.5, "n": 2}}}}}}
        (run_dir / "results.json").write_text(json.dumps(results))
        (run_dir / "records.jsonl").write_text("")
        return {}

    def unreachable(self, *args, **kwargs):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(run, "evaluate_run", evaluate)
    monkeypatch.setattr(run.generated, "summary", lambda records: {})
    path = recipe("sft", max_steps=1, push_to_hub=True, hub_model_id="a/b", eval_data=str(tmp_path))
    with monkeypatch.context() as broken:
        if failure == "token":
            broken.setattr(hub, "get_token", lambda: None)
        else:
            broken.setattr(HfApi, "upload_folder", unreachable)
        said = refused("train", path)
    model = tmp_path / "run" / "model"
    assert str(model) in said
    assert "whole on this disk" in said
    assert ("HF_TOKEN" if failure == "token" else "Name or service not known") in said
    assert not (tmp_path / "run" / "stage.json").exists()  # the pipeline would ask for it again
    before = (model / "model.safetensors").stat().st_mtime_ns

    assert main(["train", path]) == 0
    assert (model / "model.safetensors").stat().st_mtime_ns == before
    assert len(evaluated) == 1
    assert "model.safetensors" in commits[-1]["files"]
    assert "| x | greedy | acc | 0.500 | 2 |" in commits[-1]["card"]
    assert (tmp_path / "run" / "stage.json").exists()


def test_a_missing_token_is_foreseen(recipe, monkeypatch, caplog):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    hub.foresee(load_recipe(recipe("sft")))
    assert not caplog.records
    hub.foresee(load_recipe(recipe("sft", push_to_hub=True)))
    assert "no Hugging Face token yet" in caplog.text


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("hub_token", "hf_secret", "HF_TOKEN"),
        ("hub_strategy", "every_save", "pickles"),
        ("hub_model_id", "not a name", "owner/name"),
    ],
)
def test_keys_that_cannot_be_are_refused_without_a_secret_in_the_message(recipe, key, value, why):
    with pytest.raises(UserError, match=why) as refusal:
        load_recipe(recipe("sft", push_to_hub=True, **{key: value}))
    assert "hf_secret" not in str(refusal.value)


def test_a_token_in_a_pipelines_override_is_refused_before_it_is_written(capsys, tmp_path):
    (tmp_path / "p.yaml").write_text(f"stage: pipeline\nstages: [a.yaml]\noutput_dir: {tmp_path / 'out'}\n")
    assert main(["pipeline", str(tmp_path / "p.yaml"), "--sft.hub_token", "hf_secret"]) == 2
    said = capsys.readouterr().err
    assert "HF_TOKEN" in said
    assert "hf_secret" not in said
    assert not (tmp_path / "out").exists()
