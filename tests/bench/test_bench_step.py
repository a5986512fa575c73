"""`rlcomm bench step` on tiny shapes: every form does the same work, ratios are those of the times."""

import json

import pytest
import torch

from rlcomm.bench import step as bench_step
from rlcomm.bench import work as bench_work
from rlcomm.bench.step import Options
from rlcomm.bench.work import Shape, Work
from rlcomm.cli import main
from rlcomm.omni.policy import Policy, set_trainable
from rlcomm.omni.score import score
from rlcomm.orchestra.untrained import untrained
from tests.cli.test_cli import told

TINY = ["--prompt_lengths", "64", "--completion_lengths", "3", "--generations", "2", "--hidden", "128"]
TINY += ["--layers", "1", "--rounds", "1", "--embedder", "none"]


@pytest.fixture(scope="module")
def tiny() -> Policy:
    policy = untrained(128, 1, longest=301)
    set_trainable(policy.model, freeze_encoders=True)
    return policy


def test_every_part_is_in_the_table_and_in_the_file(tmp_path, capsys):
    path = tmp_path / "step.json"
    assert main(["bench", "step", *TINY, "--no_memory", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert len(found["shapes"]) == 1
    for shape in found["shapes"]:
        assert shape["limit"] == pytest.approx((shape["prompt"] + 3) * 2 / (shape["prompt"] + 6))
        assert {"rows", "grouped"} <= set(shape["scoring"])
        assert set(shape["rollout"]) == {"generate", "copies", "shared"}
        assert set(shape["step"]) == {"trl", "rlcomm", "kept"}
        for entry in shape["scoring"].values():
            assert entry["times"] == pytest.approx(shape["scoring"]["rows"]["seconds"] / entry["seconds"])
            assert entry["peak_mb"] is None
        assert all(entry["peak_mb"] is None for entry in shape["step"].values())
        base = shape["rollout"]["generate"]
        for entry in shape["rollout"].values():
            assert entry["whole_s"] == pytest.approx(entry["prefill_s"] + entry["decode_s"])
            assert entry["prefill_times"] == pytest.approx(base["prefill_s"] / entry["prefill_s"])
            assert entry["whole_times"] == pytest.approx(base["whole_s"] / entry["whole_s"])
    table = capsys.readouterr().out
    assert table.count("token-count limit") == 1
    assert all(
        word in table for word in ("rows", "grouped", "generate", "shared", "trl", "rlcomm", "peak_mb")
    )


def test_the_peak_of_memory_is_that_of_the_form(tiny):
    """Eight rows of a prompt hold several times what one row with eight completions does."""
    options = Options(parts=["scoring"], scorings=["grouped"], rounds=1)
    found = bench_step.measure(tiny, Shape(128, 2, 8, 1), options)["scoring"]
    assert 1 < 2 * found["grouped"]["peak_mb"] < found["rows"]["peak_mb"]


def test_a_whole_step_has_its_peak_of_memory_and_the_first_form_pays_for_nobody(tiny):
    """Trap: AdamW's moments are made in the first step and would stand in the baseline's peak alone."""
    options = Options(parts=["step"], rounds=1, embedder="none")
    found = bench_step.measure(tiny, Shape(128, 2, 8, 1), options)["step"]
    assert 0 < found["rlcomm"]["peak_mb"] < found["trl"]["peak_mb"]
    again = Work(tiny, Shape(128, 2, 8, 1))
    again.settle()
    moments = sum(2 * parameter.numel() * 4 for parameter in again.trained) / 2**20
    later = [bench_step._peak(lambda: again.step("generate", "rows")) / 2**20 for _ in range(2)]
    assert abs(later[0] - later[1]) < 0.5 * moments
    assert "peak_mb" in bench_step.format_step(
        {**dict.fromkeys(("model", "dtype", "device", "threads", "clock", "rounds"), ""), "parameters": 1,
         "shapes": [{"prompt": 128, "completion": 2, "generations": 8, "prompts": 1, "limit": 1.0,
                     "step": found}]}
    )  # fmt: skip


def test_every_combination_of_the_lengths_is_measured(capsys):
    given = ["--prompt_lengths", "64", "70", "--completion_lengths", "2", "3", "--prompts", "1", "2"]
    assert (
        main(["bench", "step", *TINY, *given, "--parts", "scoring", "--scorings", "grouped", "--no_memory"])
        == 0
    )
    table = capsys.readouterr().out
    assert table.count("token-count limit") == 8
    assert "P=70 C=2 G=2, 2 prompt(s)" in table
    assert "generate" not in table


def test_prompts_have_the_length_asked_for_and_are_clips(tiny):
    for tokens in (64, 100, 301):
        prompt = bench_work.make_prompt(tiny, tokens)
        assert len(prompt) == tokens
        assert {"input_features", "pixel_values_videos"} <= set(prompt.media)
    heard = (prompt.ids == tiny.config.audio_token_id) | (prompt.ids == tiny.config.video_token_id)
    assert heard.float().mean() > 0.8


def test_all_forms_do_the_same_work(tiny):
    """Traps: a rollout that ends early, media that the baseline reads once, scores of other completions."""
    work = Work(tiny, Shape(64, 5, 3, 2))
    patches = []
    hook = tiny.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: patches.append(args[0].shape[0]), with_kwargs=True
    )
    out = work.rollout("generate", 5)
    assert out.shape == (6, 64 + 5)
    for form in ("copies", "shared"):
        assert [[len(row) for row in group] for group in work.rollout(form, 5)] == [[5] * 3] * 2
    hook.remove()
    assert patches[0] == 3 * patches[1] == 3 * patches[2]
    gradients = []
    for scoring in ("rows", "grouped"):
        work._backward(scoring)
        gradients.append(torch.cat([p.grad.flatten() for p in work.trained if p.grad is not None]))
        work.optimiser.zero_grad()
    assert gradients[0].norm() > 0
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[0].norm()


def test_a_step_leaves_the_model_as_it_was(tiny):
    work = Work(tiny, Shape(64, 2, 2, 1))
    before = [parameter.clone() for parameter in tiny.model.parameters()]
    work.step("shared", "auto")
    assert all(torch.equal(one, other) for one, other in zip(before, tiny.model.parameters(), strict=True))


def test_with_kept_embeddings_the_scores_are_the_same(tiny):
    work = Work(tiny, Shape(64, 4, 2, 2))
    found = [
        score(tiny.model, some.rows, some.completions, some.mask, "grouped", some.pad_id)[0]
        for some in (work, work.kept())
    ]
    assert torch.allclose(*found, atol=1e-6)
    assert "video_embeds" in work.kept().rows[0].media
    assert "video_embeds" not in work.rows[0].media


def test_rewards_of_a_step_embed_texts_they_do_not_know(tiny, monkeypatch):
    class Seen:
        def __init__(self, name):
            self.texts = set()

        def prefetch(self, pairs):
            new = {text for text, _ in pairs} - self.texts
            self.texts |= new
            calls.append(len(new))

        def similarity(self, *texts):
            return 0.5

    calls: list[int] = []
    monkeypatch.setattr(bench_work, "Embedder", Seen)
    work = Work(tiny, Shape(64, 2, 2, 1), "minilm")
    for _ in range(2):
        work.step("shared", "auto")
    assert [count for count in calls if count] == [5, 4]  # two texts a completion; the reference but once


def test_the_table_shows_what_could_not_be_divided():
    entries = {"a": {"seconds": 1.0}, "b": {"seconds": 0.0}, "c": {"seconds": 0.5}}
    bench_step._compare(entries, "a", {"times": "seconds"})
    assert [entry["times"] for entry in entries.values()] == [1.0, None, 2.0]
    assert bench_step._cell(None) == "-"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--scorings", "lines"], "scorings has 'lines', which is unknown"),
        (["--parts", "all"], "parts has 'all', which is unknown"),
        (["--rounds", "0"], "rounds is 0, so nothing would be measured"),
        (["--generations", "1"], "generations has 1, which is nothing to measure"),
        (["--hidden", "100"], "hidden is 100, which its heads do not divide"),
        (["--prompt_lengths", "10"], "prompt_lengths has 10, but one second of sound and picture"),
    ],
)
def test_mistakes_are_one_sentence(capsys, argv, says):
    assert says in told(capsys, "bench", "step", *TINY, *argv)


def test_rows_are_always_measured():
    assert Options(scorings=["grouped"]).scorings == ["rows", "grouped"]
