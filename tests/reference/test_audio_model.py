"""Local reference models of other families, tiny and random: what they are given, and which are refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import rlcomm.utils.torchvision_ops  # noqa: F401

import torch  # isort: skip
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    Gemma3nAudioFeatureExtractor,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2AudioForConditionalGeneration,
    WhisperFeatureExtractor,
)

from rlcomm.data.sample import Sample, Turn, read_jsonl
from rlcomm.data.write_media import write_audio
from rlcomm.orchestra import nano
from rlcomm.reference.audio_model import AudioModel, audio_model_info, encode, hearing_window, split_audio
from rlcomm.reference.prompts import reference_prompt
from rlcomm.reference.rows import write_references
from rlcomm.utils.errors import UserError
from tests.reference.recipes import recipe

RATE, WINDOW = 16_000, 2
PROMPTS = [reference_prompt("Is there a drum sound?", "no"), "a much shorter prompt"]
# Audio Flamingo's own template says the same between its tags
FLAMINGO_TEMPLATE = nano.CHAT_TEMPLATE.replace("<|audio_bos|><|AUDIO|><|audio_eos|>", "<sound>")


@pytest.fixture(scope="module")
def words():
    return nano.train_tokenizer([*PROMPTS, "<a-think> I hear a drum and a flute. </a-think>"] * 4, 400)


@pytest.fixture(scope="module")
def qwen(words, tmp_path_factory):
    return saved(tmp_path_factory, *nano.nano_audio(words, layers=1, window=WINDOW))


@pytest.fixture(scope="module")
def flamingo(words, tmp_path_factory):
    """Audio Flamingo 3: one audio item a message, which its processor splits itself, up to 6 s."""
    words.add_tokens(["<sound>"])  # no special token: forgetting to forbid it must show
    ids = {token: words.convert_tokens_to_ids(token) for token in ("<sound>", "<|im_end|>", "<|endoftext|>")}
    torch.manual_seed(0)
    config = AudioFlamingo3Config(
        audio_config=dict(
            model_type="audioflamingo3_encoder", num_mel_bins=nano.MEL_BINS, hidden_size=64,
            num_hidden_layers=1, num_attention_heads=4, intermediate_size=128,
            max_source_positions=50 * WINDOW,
        ),
        text_config=dict(
            model_type="qwen2", vocab_size=len(words), hidden_size=64, intermediate_size=128,
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        ),
        audio_token_id=ids["<sound>"],
    )  # fmt: skip
    model = AudioFlamingo3ForConditionalGeneration(config)
    nano._init(model, 0.1, 0)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    processor = AudioFlamingo3Processor(
        WhisperFeatureExtractor(feature_size=nano.MEL_BINS, chunk_length=WINDOW), words,
        chat_template=FLAMINGO_TEMPLATE, max_audio_len=3 * WINDOW,
    )  # fmt: skip
    return saved(tmp_path_factory, model, processor)


@pytest.fixture(scope="module")
def thinker(nano_folder):
    return str(nano_folder)


def saved(factory, *parts):
    folder = factory.mktemp("model")
    for part in parts:
        part.save_pretrained(folder)
    return str(folder)


def tone(seconds: float, hertz: float, start: float = 0.0) -> np.ndarray:
    """(N,) float32: silence until `start`, then a tone."""
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * hertz * time) * (time >= start)).astype(np.float32)


@pytest.fixture
def rows(tmp_path):
    for i in range(3):
        write_audio(tmp_path / f"{i}.wav", tone(1.0 + i, 200 + 300 * i), RATE)
    return [
        Sample(f"r{i}", (Turn("Is there a drum sound?", "no"),), audio=str(tmp_path / f"{i}.wav"))
        for i in range(3)
    ]


# what is given


def test_qwen2_audio_is_given_what_it_always_was(qwen):
    """One template for all families: for Qwen2-Audio the tensors must be those of its own two steps."""
    processor = audio_model_info(qwen).processor
    sounds = [tone(5.0, 440, 4.0), tone(0.7, 300)]
    split = [split_audio(sound, RATE, WINDOW) for sound in sounds]
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [*[{"type": "audio"}] * len(parts), {"type": "text", "text": p}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for parts, p in zip(split, PROMPTS, strict=True)
    ]
    processor.tokenizer.padding_side = "left"
    flat = [part for parts in split for part in parts]
    before = processor(text=texts, audio=flat, sampling_rate=RATE, padding=True, return_tensors="pt")
    after = encode(processor, sounds, PROMPTS)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in after)
    assert len(after["input_features"]) == 4


def test_the_class_is_the_one_transformers_names(qwen, flamingo, thinker):
    assert audio_model_info(qwen).kind is Qwen2AudioForConditionalGeneration
    assert audio_model_info(flamingo).kind is AudioFlamingo3ForConditionalGeneration
    assert audio_model_info(thinker).kind is Qwen2_5OmniThinkerForConditionalGeneration


@pytest.mark.parametrize("family", ["qwen", "flamingo", "thinker"])
def test_decisive_sound_in_the_last_second_is_heard(family, request):
    """5 s, longer than a window of Qwen2-Audio and Audio Flamingo: an extractor alone would cut it there."""
    ear = audio_model_info(request.getfixturevalue(family))
    model = AudioModel(ear, "float32", "cpu").model
    last = []
    for sound in (tone(5.0, 440, 4.0), np.zeros(5 * RATE, np.float32)):
        with torch.no_grad():
            last.append(model(**encode(ear.processor, [sound], PROMPTS[:1])).logits[0, -1])
    assert (last[0] - last[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("processor", "seconds"),
    [
        (SimpleNamespace(feature_extractor=WhisperFeatureExtractor()), 30),
        (SimpleNamespace(feature_extractor=WhisperFeatureExtractor(chunk_length=300)), 300),  # Qwen2.5-Omni
        (SimpleNamespace(feature_extractor=WhisperFeatureExtractor(), max_audio_len=600), 600),
        (
            SimpleNamespace(feature_extractor=WhisperFeatureExtractor(), audio_kwargs={"truncation": False}),
            None,
        ),
        (SimpleNamespace(feature_extractor=Gemma3nAudioFeatureExtractor()), 30),  # a default of its call
        (SimpleNamespace(audio_processor=SimpleNamespace(sampling_rate=16_000)), None),  # Granite Speech
    ],
)
def test_how_much_a_processor_hears_at_a_time(processor, seconds):
    """What is longer is split; a wrong None would have the processor cut it silently."""
    assert hearing_window(processor) == seconds


# the rows


@pytest.mark.parametrize("family", ["flamingo", "thinker"])
def test_another_family_writes_references_row_by_row(family, rows, request, tmp_path):
    """Like Qwen2-Audio: a row's text depends on its sound and seed, not on the rows beside it."""
    model = request.getfixturevalue(family)
    options = dict(temperature=2.0, top_p=1.0, max_new_tokens=12, attempts=1)
    texts = {}
    for name, batch, order in (("three", 3, 1), ("one", 1, -1)):
        keys = recipe(model, tmp_path / f"{name}.jsonl", batch_size=batch, **options)
        report = write_references(rows[::order], keys, progress=False, device="cpu")
        assert report["computed"] == 3
        found = read_jsonl(tmp_path / f"{name}.jsonl")
        texts[name] = {row.id: row.reference or row.meta["reference"]["failed"] for row in found}
    assert texts["three"] == texts["one"]
    assert len(set(texts["one"].values())) == 3
    assert all(texts["one"].values())


@pytest.mark.parametrize("family", ["qwen", "flamingo", "thinker"])
def test_placeholders_of_sound_are_never_written(family, request):
    """To Audio Flamingo <sound> is an ordinary word; written, the next forward would look for sound."""
    ear = audio_model_info(request.getfixturevalue(family))
    hearer = AudioModel(ear, "float32", "cpu")
    assert ear.processor.audio_token_id in hearer.forbidden
    assert ear.processor.tokenizer.eos_token_id not in hearer.forbidden


def test_a_smaller_window_of_the_recipe_counts_and_is_provenance(qwen, rows, tmp_path):
    keys, options = dict(max_new_tokens=4, attempts=1), dict(progress=False, device="cpu")
    out = tmp_path / "out.jsonl"
    write_references(rows, recipe(qwen, out, **keys), **options)
    before = [row.meta["reference"]["parts"] for row in read_jsonl(out)]
    assert write_references(rows, recipe(qwen, out, audio_window=1.0, **keys), **options)["computed"] == 3
    meta = [row.meta["reference"] for row in read_jsonl(out)]
    assert before == [1, 1, 2]
    assert [one["parts"] for one in meta] == [1, 2, 3]
    assert {one["sampling"]["window"] for one in meta} == {1.0}


# refusals


def test_a_sound_too_long_for_a_model_of_one_item_is_refused(flamingo, rows, tmp_path):
    """Audio Flamingo would warn and cut it."""
    write_audio(tmp_path / "2.wav", tone(7.0, 300), RATE)
    with pytest.raises(UserError, match=r"2\.wav: lasts 7 s, and .* at most 6 s .* row 'r2'"):
        write_references(rows, recipe(flamingo, tmp_path / "out.jsonl"), progress=False, device="cpu")


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bert"},
        {"model_type": "qwen2"},
        {"model_type": "qwen2_5_vl"},  # sees, in the same mapping as those that hear
        {"model_type": "t5"},
        {"model_type": "gemma4", "audio_config": None},  # a size of a hearing family that does not hear
    ],
)
def test_a_model_that_takes_no_sound_is_refused_in_one_sentence(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        audio_model_info(str(tmp_path))
    assert f"a '{config['model_type']}' model, which takes no sound in transformers" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_processor_without_a_chat_template_is_refused(flamingo, tmp_path):
    processor = AudioFlamingo3Processor.from_pretrained(flamingo)
    processor.chat_template = None
    processor.tokenizer.chat_template = None
    AudioFlamingo3Config.from_pretrained(flamingo).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has no chat template, so .* set reference_backend: endpoint"):
        audio_model_info(str(tmp_path))


def test_an_incomplete_folder_is_refused(qwen, tmp_path):
    config = audio_model_info(qwen).kind.config_class.from_pretrained(qwen)
    config.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"The processor of the reference model .* could not be loaded"):
        audio_model_info(str(tmp_path))
