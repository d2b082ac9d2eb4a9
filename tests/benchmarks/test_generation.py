"""The page of what a model writes, on a run of a moment."""

import pytest
from training_toys import sentences, settings, write_corpus

import seqvae
from benchmarks import generation


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    files = write_corpus(folder)
    (folder / "test.txt").write_text("".join(f"{text}\n" for text in sentences(41, seed=5)), encoding="utf-8")
    data = files | {"test": str(folder / "test.txt")}
    for name, latent in (("vae", 3), ("lm", 0)):
        config = settings(data=data, model={"latent_dim": latent}, train={"steps": 4})
        seqvae.train(config, out=folder / name)
    return folder


def page_of(runs, *more):
    words = [
        "--model",
        runs / "vae",
        "--language-model",
        runs / "lm",
        "--samples",
        30,
        "--out",
        runs / "page.md",
        *more,
    ]
    generation.main([str(word) for word in words])
    return (runs / "page.md").read_text(encoding="utf-8")


def block_after(page: str, title: str) -> list[str]:
    """The lines of the block under a heading."""
    lines = page.split(title, 1)[1].split("\n\n")[1].splitlines()
    assert all(line.startswith("    ") for line in lines)
    return [line[4:] for line in lines]


def test_it_measures_and_shows_twenty_of_each_as_they_come(runs, capsys):
    page = page_of(runs)
    assert capsys.readouterr().out.strip() == page.strip()
    for name in ("forward PPL", "reverse PPL", "self-BLEU", "distinct-2", "the middle, to the first"):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
        assert any(character.isdigit() for character in row), row
    assert "30 samples (codes: prior) beside 30 real sentences" in page
    vae = seqvae.load(runs / "vae")
    assert block_after(page, "20 samples from the prior") == vae.sample(20, seed=0)
    shown = block_after(page, "20 reconstructions")
    texts = sentences(41, seed=5)[:20]
    assert shown[::2] == texts
    assert [line.removeprefix("-> ") for line in shown[1::2]] == vae.reconstruct(texts)
    assert len(block_after(page, "20 midpoints")) == 20


def test_the_sentences_may_be_those_of_a_file(runs, tmp_path):
    mine = [f"w{n % 9} w{(n + 3) % 9}" for n in range(23)]
    (tmp_path / "mine.txt").write_text("\n".join(mine), encoding="utf-8")
    page = page_of(runs, "--sentences", tmp_path / "mine.txt")
    assert block_after(page, "20 reconstructions")[::2] == mine[:20]
    (tmp_path / "mine.txt").write_text("w1\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="20 sentences are wanted, and there are 1"):
        page_of(runs, "--sentences", tmp_path / "mine.txt")
