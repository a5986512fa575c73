"""What `import rlcomm` offers: at no cost, typed, documented, and of use without the rest of rlcomm."""

import ast
import dataclasses
import inspect
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rlcomm
from rlcomm.decoding.branches import branch_prompts
from rlcomm.decoding.decoders import READS
from rlcomm.omni.score import candidate_scores
from rlcomm.steps import build as steps_text
from rlcomm.utils.errors import UserError
from tests.conftest import make_clip, make_sample

ROOT = Path(__file__).resolve().parents[1]
QUESTION, TEXT = "Is there a violin sound?", "I hear a drum."
LABELS = ("yes", "no")


# -- the names -----------------------------------------------------------------------------------------------


def test_importing_it_imports_nothing_else():
    code = "import json, sys; import rlcomm; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout)
    assert [name for name in modules if name.startswith("rlcomm")] == ["rlcomm"]
    assert not {"torch", "transformers", "trl", "numpy", "datasets", "yaml"} & set(modules)


def test_what_type_checkers_see_is_what_is_imported():
    tree = ast.parse(Path(rlcomm.__file__).read_text(encoding="utf-8"))
    [checking] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for node in checking.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    assert seen == rlcomm._PUBLIC
    assert sorted(seen) == rlcomm.__all__
    assert (Path(rlcomm.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("name", rlcomm.__all__)
def test_every_name_is_there_and_documented(name):
    found = getattr(rlcomm, name)
    assert name in dir(rlcomm)
    assert re.search(rf"\b{name}\b", rlcomm.__doc__ or "")
    if callable(found):
        first = (inspect.getdoc(found) or "").splitlines()[0]
        assert len(first.split()) >= 3, f"{name}: {first!r}"


def test_another_name_is_none():
    with pytest.raises(AttributeError, match="'rlcomm' has no attribute 'gcal'"):
        _ = rlcomm.gcal


# -- a model -------------------------------------------------------------------------------------------------


@pytest.fixture
def conflict():
    """A question whose text may conflict with the sound."""
    sample = make_sample(question=f"{TEXT} {QUESTION}")
    return dataclasses.replace(sample, meta={"without_text": QUESTION})


def test_a_row_is_asked_and_scored(nano_folder, clip_rows, tmp_path):
    from rlcomm.data.sample import write_jsonl

    write_jsonl(tmp_path / "rows.jsonl", clip_rows[:2])
    policy = rlcomm.load_policy(str(nano_folder))
    assert isinstance(policy, rlcomm.Policy)
    rows = rlcomm.read_jsonl(tmp_path / "rows.jsonl")
    assert all(isinstance(row, rlcomm.Sample) and isinstance(row.turns[0], rlcomm.Turn) for row in rows)
    clip = rlcomm.load_clip(rows[0].video, rows[0].audio, rlcomm.MediaSettings())
    assert isinstance(clip, rlcomm.Clip)
    prompt = rlcomm.encode(policy, rows[0], clip, "direct")
    assert isinstance(prompt, rlcomm.EncodedPrompt)
    [[text]] = rlcomm.generate(policy.model, policy.processor, [prompt], max_new_tokens=4)
    assert isinstance(text, str)
    completions = torch.tensor([policy.processor.tokenizer("yes")["input_ids"]])
    mask = torch.ones_like(completions)
    with torch.no_grad():
        logps, entropies = rlcomm.score(policy.model, [prompt], completions, mask)
    assert logps.shape == completions.shape == entropies.shape
    assert (logps < 0).all()
    assert (entropies > 0).all()


@pytest.mark.parametrize("decoder", ["greedy", "gacl", "aad", "avcd", "ignore_text"])
def test_a_decoder_chooses_a_label_by_the_scores_of_its_branches(policy, conflict, decoder):
    """Each branch scored by itself, the plain way."""
    clip = make_clip(0)
    choice = rlcomm.decode_label(policy, conflict, clip, LABELS, decoder)
    assert choice.applies
    prompts = branch_prompts(policy, conflict, clip, READS[decoder])
    plain = {
        name: candidate_scores(policy.model, policy.processor, [prompt], [list(LABELS)])[0]
        for name, prompt in prompts.items()
    }
    if decoder == "gacl":
        expected = rlcomm.gacl(plain["joint"], plain["evidence"]).scores
    elif decoder == "aad":
        full, deaf = (torch.tensor(plain[name]).log_softmax(-1) for name in ("joint", "no_audio"))
        expected = rlcomm.contrast(full, deaf, a=0.5).tolist()
    elif decoder == "avcd":
        full, *others = (torch.tensor(plain[name]).log_softmax(-1) for name in READS["avcd"])
        expected = rlcomm.avcd(full, *others).tolist()
    else:
        expected = torch.tensor(plain[READS[decoder][0]]).log_softmax(-1).tolist()
    assert choice.scores == pytest.approx(expected, abs=1e-4)
    assert choice.prediction == max(range(2), key=lambda i: expected[i])


def test_a_branch_that_is_not_there_leaves_the_joint_answer(policy):
    sample, clip = make_sample(), make_clip(0)  # no text to leave out
    joint = rlcomm.decode_label(policy, sample, clip, LABELS, "greedy")
    choice = rlcomm.decode_label(policy, sample, clip, LABELS, "gacl")
    assert not choice.applies
    assert choice.prediction == joint.prediction
    said = [rlcomm.decode_text(policy, sample, clip, d, max_new_tokens=5) for d in ("gacl", "greedy")]
    assert said[0] == said[1]


def test_a_decoder_writes_its_answer_token_by_token(policy, conflict):
    clip = make_clip(0)
    prompts = branch_prompts(policy, conflict, clip, ("joint", "evidence"))
    joint, evidence = (
        rlcomm.generate(policy.model, policy.processor, [prompt], max_new_tokens=6)[0][0]
        for prompt in prompts.values()
    )
    assert joint != evidence
    assert rlcomm.decode_text(policy, conflict, clip, "greedy", max_new_tokens=6) == joint
    settings = {"lam": 1.0, "tau": 0.0}  # wherever the evidence differs it is believed
    assert rlcomm.decode_text(policy, conflict, clip, "gacl", settings, max_new_tokens=6) == evidence
    settings = {"lam": 0.0}
    assert rlcomm.decode_text(policy, conflict, clip, "gacl", settings, max_new_tokens=6) == joint


def test_labels_behind_a_chain_of_thought_are_refused(policy, conflict):
    with pytest.raises(UserError, match="use decode_text"):
        rlcomm.decode_label(policy, conflict, make_clip(0), LABELS, "chain_of_thought")
    assert isinstance(
        rlcomm.decode_text(policy, conflict, make_clip(0), "chain_of_thought", max_new_tokens=3), str
    )


# -- rewards -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm():
    return rlcomm.Embedder("minilm", device="cpu")


def test_the_rewards_are_functions_of_one_completion(minilm):
    steps = rlcomm.parse(steps_text("I hear a drum.", "I see a drum.", "yes"))
    assert isinstance(steps, rlcomm.Steps)
    sample = make_sample(reference="I hear a drum.")
    assert rlcomm.format_reward(steps) == 1.0
    assert rlcomm.accuracy_reward(steps, sample) == 1.0
    assert rlcomm.arr_reward(steps, sample, minilm, 0.9) == 1.0
    assert 1.0 < rlcomm.avc_reward(steps, sample, minilm) <= 2.0
    wrong = make_sample(answer="no", reference="I hear a harp.")
    assert rlcomm.accuracy_reward(steps, wrong) == rlcomm.arr_reward(steps, wrong, minilm, 0.9) == 0.0


def columns(**more) -> dict:
    """A batch as TRL hands it over: keywords of its own beside the columns of the data set."""
    texts = [
        steps_text("I hear a drum.", "I see a drum.", "yes"),
        steps_text("I hear a harp.", "I see a drum.", "no"),
    ]
    return {
        "prompts": ["q", "q"], "completions": texts, "completion_ids": [[1], [1]], "trainer_state": None,
        "answer": ["yes", "yes"], **more,
    }  # fmt: skip


def test_trl_rewards_read_the_columns_of_a_data_set(minilm):
    functions = rlcomm.trl_rewards(embedder=minilm)
    assert [function.__name__ for function in functions] == ["format", "arr", "avc", "accuracy"]
    batch = columns(reference=["I hear a drum.", None])
    values = {function.__name__: function(**batch) for function in functions}
    assert values["format"] == [1.0, 1.0]
    assert values["arr"] == [1.0, None]
    assert values["accuracy"] == [1.0, 0.0]
    assert values["avc"][0] > 1 > values["avc"][1] > 0
    [accuracy] = rlcomm.trl_rewards("accuracy")
    lettered = columns(answer=["B", "A"], options=[["no", "yes"], ["no", "yes"]])
    assert accuracy(**lettered) == [1.0, 1.0]


@pytest.mark.parametrize(("mode", "missing"), [("calibrated", "reference"), ("witnessed", "sight")])
def test_a_column_that_is_not_there_is_named(minilm, mode, missing):
    [function] = rlcomm.trl_rewards("avc", avc_mode=mode, embedder=minilm)
    more = {"reference": ["I hear a drum."] * 2, "sight": ["I see a drum."] * 2}
    assert function(**columns(**more))[0] == pytest.approx(2.0, abs=1e-3)
    del more[missing]
    with pytest.raises(UserError, match=rf"the reward 'avc' reads the column '{missing}'"):
        function(**columns(**more))


def test_an_unknown_reward_is_refused():
    with pytest.raises(UserError, match="style, which is no reward"):
        rlcomm.trl_rewards("style")


def test_the_audit_needs_no_recipe(minilm):
    rows = [
        make_sample(str(i), reference=f"I hear a {heard}.", sight=f"I see a {seen}.")
        for i, (heard, seen) in enumerate([("drum", "harp"), ("flute", "violin"), ("harp", "harp")])
    ]
    weights = {"format": 1.0, "avc": 1.0}
    found = rlcomm.audit(rows, weights, embedder=minilm, progress=False)
    assert found["rows_used"] == 3
    assert any("a_told_as_seen" in sentence for sentence in found["findings"])
    closed = rlcomm.audit(rows, weights, embedder=minilm, avc_mode="witnessed", progress=False)
    assert not any("a_told_as_seen" in sentence for sentence in closed["findings"])
    assert found["fingerprint"] != closed["fingerprint"]


# -- decoding on scores --------------------------------------------------------------------------------------


def test_gacl_repairs_on_lists_and_on_tensors_alike():
    joint, audio = [-0.4, -1.1, -3.0], [-2.6, -0.2, -2.5]
    settings = rlcomm.GACLSettings(lam=1.0, tau=1.0)
    decision = rlcomm.gacl(joint, audio, settings)
    assert (decision.joint, decision.audio, decision.prediction) == (0, 1, 1)
    tokens = rlcomm.gacl_tokens(torch.tensor([joint]), torch.tensor([audio]), settings)
    assert tokens.prediction.tolist() == [1]
    assert tokens.alpha.tolist() == pytest.approx([decision.alpha])
    assert tokens.scores[0].tolist() == pytest.approx(decision.scores, abs=1e-6)


def test_the_contrasts_by_hand():
    full, other = torch.tensor([0.6, 0.4]).log(), torch.tensor([0.9, 0.1]).log()
    assert torch.allclose(rlcomm.contrast(full, other, a=1.0), 2 * full - other)
    assert rlcomm.contrast(full, other, a=1.0).argmax() == 1
    assert math.isinf(rlcomm.contrast(full, other, a=1.0, b=0.9)[1])  # implausible under the full input
    mixed = rlcomm.avcd(full, other, other, other, a=0.5, b=None, gate=0.0)
    assert torch.allclose(mixed, 3 * full - other + 2 * other)


# -- evaluation ----------------------------------------------------------------------------------------------


def test_benchmarks_are_named_and_opened(orchestra_data):
    assert {"avconfuse_muted", "mcr_aqa", "music_avqa", "omnibench"} <= set(rlcomm.benchmarks)
    [muted, avqa] = rlcomm.open_benchmarks(orchestra_data, ["avconfuse_muted", "music_avqa"], limit=2)
    assert (muted.key, avqa.key) == ("avconfuse_muted", "music_avqa")
    assert all(isinstance(sample, rlcomm.Sample) for sample in (*muted.samples, *avqa.samples))


def test_a_model_of_ones_own_is_evaluated(nano_folder, orchestra_data):
    """Built with transformers alone, not by `load_policy`."""
    from transformers import AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration

    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(nano_folder).eval()
    own = rlcomm.Policy(model, AutoProcessor.from_pretrained(nano_folder), "mine")
    results = {
        name: rlcomm.evaluate(policy, orchestra_data, prompt_style="direct", limit=2, progress=False)
        for name, policy in (("own", own), ("loaded", rlcomm.load_policy(str(nano_folder))))
    }
    assert results["own"]["model"] == "mine"
    assert results["own"]["decoders"] == results["loaded"]["decoders"]
    assert "acc" in results["own"]["decoders"]["greedy"]["benchmarks"]["avconfuse_muted"]


@pytest.fixture(scope="module")
def orchestra_data(tmp_path_factory) -> Path:
    from rlcomm.orchestra.build import build

    folder = tmp_path_factory.mktemp("orchestra")
    build(folder, seed=0, train=0, warmup=0, test=4, workers=1)
    return folder


# -- scripts of the README -----------------------------------------------------------------------------------


def readme_script(words: str) -> str:
    """The Python block of the README that holds these words."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    [found] = [block for block in blocks if words in block]
    return found


def run_script(code: str, folder: Path) -> str:
    (folder / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_readmes_gacl_script_says_what_gacl_says(tmp_path):
    prediction, alpha, reliability = run_script(readme_script("GACLSettings(lam="), tmp_path).split()
    assert (prediction, float(alpha), float(reliability)) == ("1", 1.0, 1.0)


TINY_MODEL = """
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

words = ["[PAD]", "[EOS]", *"abcdefghijklmnopqrstuvwxyz<>/-.? "]
backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[PAD]"))
backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", eos_token="[EOS]")
config = Qwen2Config(
    vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, eos_token_id=1, pad_token_id=0,
)
Qwen2ForCausalLM(config).save_pretrained("tiny")
tokenizer.save_pretrained("tiny")
"""


def test_the_readmes_grpo_script_trains_with_trl_alone(tmp_path):
    """Of a text-only model that is no omni model, made here; the README names one of the hub."""
    rows = [{"prompt": "is there a drum?", "answer": "yes", "reference": "i hear a drum."}] * 4
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = readme_script("GRPOTrainer(").replace("Qwen/Qwen2.5-0.5B-Instruct", "tiny")
    options = (
        "max_steps=2, use_cpu=True, bf16=False, per_device_train_batch_size=4, num_generations=4, "
        "max_completion_length=8, logging_steps=1, save_strategy='no', report_to='none', "
    )
    assert code.count("reward_weights=") == 1
    code = code.replace("reward_weights=", f"{options}reward_weights=")
    code += "\nimport json\nprint('LOG', json.dumps(trainer.state.log_history))\n"
    assert "import rlcomm" not in code
    said = run_script(code.replace("\ntrainer = ", f"\n{TINY_MODEL}\ntrainer = "), tmp_path)
    [line] = [line for line in said.splitlines() if line.startswith("LOG ")]
    steps = [entry for entry in json.loads(line.removeprefix("LOG ")) if "reward" in entry]
    assert len(steps) == 2
    for name in ("format", "arr", "accuracy"):
        assert all(0 <= entry[f"rewards/{name}/mean"] <= 1 for entry in steps)
