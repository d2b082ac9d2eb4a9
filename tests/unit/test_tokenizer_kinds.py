"""The section ``tokenizer`` of a config: which kind is meant, what is made of it, how numbers compare across kinds."""

import pytest

from seqvae.config import Config
from seqvae.data.corpora import DataConfig
from seqvae.data.row_encoder import RowEncoder
from seqvae.data.store import TokenStore, prepare
from seqvae.data.tokenizers import (
    CharTokenizer,
    CharTokenizerConfig,
    SavedTokenizerConfig,
    SentencePieceTokenizer,
    SentencePieceTokenizerConfig,
    WordTokenizer,
    WordTokenizerConfig,
    train_tokenizer,
)
from seqvae.errors import SeqVAEError
from seqvae.evaluation.report import EvalConfig, evaluate_model
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.types import UNK

LINES = ["the old cat saw a dog", "a  dog saw the cat", "the dog 狗 drank tea"] * 7
KINDS = {
    "word": (WordTokenizerConfig(), WordTokenizer),
    "char": (CharTokenizerConfig(), CharTokenizer),
    "sentencepiece": (SentencePieceTokenizerConfig(vocab_size=281), SentencePieceTokenizer),
}


def write(path, lines=LINES):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def mistake(text: str, tmp_path, *overrides: str) -> str:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SeqVAEError) as caught:
        Config.from_yaml(path, list(overrides))
    return caught.value.render().replace(str(path), "my.yaml")


@pytest.mark.parametrize(
    "section", ["", "tokenizer:\n", "tokenizer: {min_freq: 2}\n", "tokenizer: {unknown_word: N}\n"]
)
def test_a_section_without_a_name_means_words(tmp_path, section):
    (tmp_path / "my.yaml").write_text(section)
    assert isinstance(Config.from_yaml(tmp_path / "my.yaml").tokenizer, WordTokenizerConfig)
    assert Config.from_yaml(tmp_path / "my.yaml", ["tokenizer.min_freq=3"]).tokenizer.min_freq == 3


def test_another_kind_can_be_chosen_on_the_command_line_whatever_the_file_says_of_words():
    words = {"tokenizer": {"unknown_word": "<unk>", "lowercase": True, "max_size": 50}}
    assert Config.from_dict(words, ["tokenizer.name=char"]).tokenizer == CharTokenizerConfig(
        lowercase=True, max_size=50
    )
    pieces = Config.from_dict(words, ["tokenizer.name=sentencepiece", "tokenizer.vocab_size=300"]).tokenizer
    assert pieces == SentencePieceTokenizerConfig(lowercase=True, vocab_size=300)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resolved_config_reads_back_to_the_same_kind(tmp_path, kind):
    config = Config.from_dict({}, [f"tokenizer.name={kind}"])
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert Config.from_yaml(tmp_path) == config
    given = SentencePieceTokenizerConfig(model_file=tmp_path / "m.model")
    (tmp_path / "config.yaml").write_text(Config(tokenizer=given).to_yaml())
    assert Config.from_yaml(tmp_path).tokenizer == given


def test_a_setting_of_another_kind_is_told_as_such(tmp_path):
    assert mistake("tokenizer:\n  name: char\n  unknown_word: N\n", tmp_path) == (
        "error[E204]: `tokenizer.unknown_word` is not a setting\n"
        "  --> my.yaml:3:3\n"
        "   |\n"
        " 3 |   unknown_word: N\n"
        "   |   ^^^^^^^^^^^^\n"
        "help: `unknown_word` is a setting of `name: word`"
    )
    told = mistake("tokenizer: {min_freq: 2}\n", tmp_path, "tokenizer.vocab_size=300")
    assert "tokenizer.vocab_size=300\n |           ^^^^^^^^^^\n" in told
    assert told.endswith("help: `vocab_size` is a setting of `name: sentencepiece`")


def test_a_slip_is_answered_with_the_nearest_setting_of_the_kind_that_is_meant(tmp_path):
    told = mistake("tokenizer:\n  vocab_sise: 30\n  name: sentencepiece\n", tmp_path)
    assert "my.yaml:2:3" in told
    assert told.endswith("help: did you mean `vocab_size`?")
    told = mistake("tokenizer: {name: sentencepeice}\n", tmp_path)
    assert told.endswith("help: did you mean `sentencepiece`?")
    told = mistake("tokenizer: char\n", tmp_path)
    assert told.endswith("help: set `tokenizer.name`; choose from: word, char, sentencepiece, saved")
    told = mistake("tokenizer:\n  name: saved\n", tmp_path)
    assert "`tokenizer.folder` is missing" in told


@pytest.mark.parametrize("kind", KINDS)
def test_preparing_makes_the_kind_once_and_finds_it_again(tmp_path, kind, monkeypatch):
    data = DataConfig(train=write(tmp_path / "train.txt"), valid=write(tmp_path / "valid.txt", LINES[:5]))
    config, made = KINDS[kind]
    first = prepare(data, config, cache=tmp_path / "cache")
    assert isinstance(first.tokenizer, made)
    monkeypatch.setattr(made, "train", None)  # a second training would fail
    again = prepare(data, config, cache=tmp_path / "cache")
    assert again.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    for split in ("train", "valid"):
        assert again.splits[split].fingerprint == first.splits[split].fingerprint
        assert again.splits[split].tokens.tolist() == first.splits[split].tokens.tolist()


def test_a_saved_tokenizer_is_used_as_it_is_from_its_folder_a_model_or_a_run(tmp_path):
    data = DataConfig(train=write(tmp_path / "train.txt"), valid=write(tmp_path / "valid.txt"))
    tokenizer = WordTokenizer(["cat", "dog"])
    for place in ("plain", "folder/tokenizer", "run/model/tokenizer"):
        tokenizer.save(tmp_path / place)
        config = SavedTokenizerConfig(folder=tmp_path / place.partition("/")[0])
        assert prepare(data, config, cache=tmp_path / "cache").tokenizer.fingerprint() == tokenizer.fingerprint()
    with pytest.raises(SeqVAEError, match="missing") as caught:
        prepare(data, SavedTokenizerConfig(folder=tmp_path / "none"), cache=tmp_path / "cache")
    assert caught.value.code == "E402"


def test_a_given_model_that_changes_is_read_again(tmp_path):
    data = DataConfig(train=write(tmp_path / "train.txt"), valid=write(tmp_path / "valid.txt"))
    seen = set()
    for size in (279, 281):
        made = train_tokenizer(LINES, SentencePieceTokenizerConfig(vocab_size=size))
        (tmp_path / "its.model").write_bytes(made.model)
        config = SentencePieceTokenizerConfig(model_file=tmp_path / "its.model")
        seen.add(prepare(data, config, cache=tmp_path / "cache").tokenizer.vocab_size)
    assert seen == {279, 281}


def test_what_is_unknown_is_told_by_its_kind(tmp_path):
    data = DataConfig(train=write(tmp_path / "train.txt"), valid=write(tmp_path / "valid.txt", ["XXYY", "a dog"]))
    notes = prepare(data, CharTokenizerConfig(), cache=tmp_path / "cache").notes
    assert notes == ["valid: 44.4% of the tokens are unknown characters"]
    write(tmp_path / "valid.txt", ["XXYY", "ZZ"])
    with pytest.raises(SeqVAEError, match="no character of the valid text is in the vocabulary") as caught:
        prepare(data, CharTokenizerConfig(), cache=tmp_path / "cache")
    assert caught.value.code == "E313"


@pytest.mark.parametrize("kind", KINDS)
def test_nats_are_shared_out_over_the_same_words_and_characters_whatever_the_tokens(kind):
    """Words and characters are those of the lines; only the tokens, each sentence's end among them, are the kind's."""
    tokenizer = train_tokenizer(LINES, KINDS[kind][0])
    store = TokenStore.from_texts(LINES, tokenizer)
    model = SeqVAE(ModelConfig(latent_dim=2), tokenizer.vocab_size)
    found = evaluate_model(model, tokenizer, store, split="test", config=EvalConfig(iw_samples=3))
    rows, words, characters = len(LINES), sum(len(line.split()) for line in LINES), sum(map(len, LINES))
    tokens = sum(len(tokenizer.encode(line)) + 1 for line in LINES)
    assert found.tokens == tokens
    assert found.nats_per_word == pytest.approx(found.iw_nats * rows / words)
    assert found.nats_per_character == pytest.approx(found.iw_nats * rows / characters)
    assert tokens == {"word": words + rows, "char": characters + rows, "sentencepiece": tokens}[kind]
    assert words + rows <= tokens <= characters + rows + 2 * 7 + rows  # 狗 is 3 bytes, a space goes before each line


@pytest.mark.parametrize(
    ("tokenizer", "text", "kept"),
    [
        (WordTokenizer(["a", "dog"]), "a lengthy dog <unk> ran", "a lengthy dog"),
        (WordTokenizer(["a", "dog"], unknown_word="<unk>"), "<unk> I a dog", "<unk> I a"),
        (CharTokenizer(["a", "<", "u", "n", "k", ">"]), "a!<unk>", "a!<"),
        (train_tokenizer(LINES, SentencePieceTokenizerConfig(vocab_size=25, byte_fallback=False)), "aXYa", "aXY"),
    ],
)
def test_a_truncated_sentence_counts_the_characters_that_are_kept(tokenizer, text, kept):
    """Also those of unknown tokens, which are shown as `<unk>`."""
    encoder = RowEncoder(tokenizer=tokenizer, max_length=len(tokenizer.encode(kept)), too_long="truncate")
    stats = encoder.encode([text]).stats
    assert (stats.too_long, stats.unknown) == (1, tokenizer.encode(kept).count(UNK))
    assert (stats.words, stats.characters) == (len(kept.split()), len(kept))
