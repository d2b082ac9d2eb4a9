"""Pages about a run: what is on them, and that no text of a corpus becomes markup."""

import base64
import dataclasses
import re
from html.parser import HTMLParser

import pytest

from seqvae.pages.render import html, markdown
from seqvae.pages.run_page import FigureShown, RunPage

EVIL = "<script>alert(1)</script> | **bold** `code` [link](x) & \"quoted\" 'too'"
PAGE = RunPage(
    name="mine",
    kind="A variational autoencoder over text (LSTM, 3 latent dimensions)",
    verdict="Not collapsed: the right z saves 4.79 nats per sentence.",
    evidence=["KL 2.94 nats", "MI 1.61 ± 0.02 nats of at most 7.60"],
    advice=None,
    split="valid",
    numbers=[("-ELBO", "24.617", "0.071", "rec + KL"), ("active units", "3", "", "dimensions whose mean varies")],
    figures=[FigureShown(title="Where sentences lie", about="By length.", svg="<svg><text>one</text></svg>")],
    no_figures=None,
    samples=["a sample", EVIL],
    reconstructions=[(EVIL, "what came back")],
    paths=[("from here", EVIL, [(0.0, "from here"), (1.0, EVIL)])],
    facts=[("seed", "7"), ("command", f"seqvae train {EVIL}")],
    data=[("train", EVIL, "0123abc")],
    config=f"data:\n  train: {EVIL}\n",
)


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def read(page) -> Reader:
    reader = Reader()
    reader.feed(html(page))
    return reader


def test_every_text_is_shown_as_it_is_and_none_is_run():
    reader = read(PAGE)
    assert "script" not in reader.tags
    assert sum(text == EVIL for text in reader.texts) == 3  # the sample, the sentence and the end of the path
    assert sum(EVIL in text for text in reader.texts) == 7


def test_the_page_fetches_nothing_and_holds_its_figures():
    (source,) = read(PAGE).sources
    assert base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")).decode() == PAGE.figures[0].svg
    assert "default-src 'none'" in html(PAGE)
    assert not re.search(r"https?://", html(PAGE))


@pytest.mark.parametrize("write", [html, markdown])
def test_all_of_it_is_on_the_page(write):
    shown = write(PAGE)
    for text in ("mine", PAGE.verdict, *PAGE.evidence, "24.617", "0.071", "a sample", "what came back", "0123abc"):
        assert text in shown
    assert "Next:" not in shown
    assert "Next: train longer" in write(dataclasses.replace(PAGE, advice="train longer"))


def test_rows_of_markdown_have_the_cells_of_their_head():
    for block in re.findall(r"(?:^\|.*\n)+", markdown(PAGE, "figures"), re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1, block
    assert "](figures/1.svg)" in markdown(PAGE, "figures")
    assert ".svg" not in markdown(PAGE)


def test_what_a_kind_of_model_does_not_have_leaves_no_empty_heading():
    bare = dataclasses.replace(PAGE, samples=[], reconstructions=[], paths=[], figures=[], no_figures="no matplotlib")
    for shown in (html(bare), markdown(bare)):
        for heading in ("Samples", "Reconstructions", "Paths", "Where sentences lie"):
            assert heading not in shown
    assert "Without figures: no matplotlib." in html(bare)
