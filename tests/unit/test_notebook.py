"""What a notebook shows of results: well-formed tables with their numbers, every text escaped, no colour of our own."""

import copy
import pickle
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from evaluation_toys import small_model, texts

from seqvae.config import Config
from seqvae.data.tokenizers import WordTokenizer
from seqvae.evaluation.comparison import Measured, compare
from seqvae.evaluation.diagnosis import diagnose
from seqvae.evaluation.report import EvalConfig
from seqvae.evaluation.verdict import Verdict
from seqvae.notebook import MOST_ROWS, Shown, Table, html
from seqvae.textvae import TextVAE, evaluate

EVIL = "<script>alert(1)</script>&<img/src=x>"
WORDS = WordTokenizer([EVIL, *"abcdef"])


class Page(HTMLParser):
    """Refuses what is not well-formed or not ours; keeps the cells of each table and the paragraphs."""

    TAGS = ("div", "p", "table", "thead", "tbody", "tr", "th", "td")

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.paragraphs: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag in self.TAGS, tag
        assert [name for name, _ in attributes] in ([], ["style"])
        assert not re.search(r"color(?!: inherit)|background|#|rgb|url", dict(attributes).get("style", ""))
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "p":
            self.paragraphs.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        else:
            assert self.open[-1] == "p", data
            self.paragraphs[-1] += data


def page(shown) -> Page:
    return Page(shown._repr_html_())


@pytest.fixture(scope="module")
def vae() -> TextVAE:
    return TextVAE(small_model(vocab=WORDS.vocab_size, scale=1.2), WORDS)


@pytest.fixture(scope="module")
def report(vae):
    return evaluate(vae, texts(30), config=EvalConfig(iw_samples=2))


def test_a_table_holds_its_cells_and_counts_what_it_leaves_out():
    rows = [(f"row {number}", number / 3, None) for number in range(MOST_ROWS + 7)]
    found = Page(html("before", Table(title="numbers", columns=("name", "value", "none"), rows=rows), ""))
    assert found.paragraphs == ["before", "numbers", "and 7 more"]
    (table,) = found.tables
    assert table[0] == ["name", "value", "none"]
    assert table[2] == ["row 1", "0.3333", ""]
    assert len(table) == 1 + MOST_ROWS
    assert Page(html(Table(columns=("a",), rows=[]))).tables == [[["a"]]]


def test_every_text_is_escaped():
    shown = html(EVIL, Table(title=EVIL, columns=(EVIL,), rows=[(EVIL,)]))
    assert "<script" not in shown
    assert "<img" not in shown
    found = Page(shown)
    assert (found.paragraphs, found.tables) == ([EVIL, EVIL], [[[EVIL], [EVIL]]])


def test_numbers_stand_to_the_right_and_words_to_the_left():
    shown = html(Table(columns=("word", "number"), rows=[("a", "-1,234.5"), ("b", "7 ± 0.5")]))
    assert re.findall(r"text-align: (\w+)[^>]*>([^<]+)<", shown) == [
        *(("left", "word"), ("right", "number"), ("left", "a"), ("right", "-1,234.5")),
        *(("left", "b"), ("right", "7 ± 0.5")),
    ]


def test_lists_of_the_model_are_tables_and_lists_still(vae):
    way = vae.interpolate(EVIL, "b c", steps=4)
    assert page(way).tables[0][1:] == [[f"{t:.4g}", text] for t, text in way]
    assert page(way).tables[0][0] == ["t", "text"]
    drawn = vae.sample(30, seed=1)
    assert any(EVIL in text for text in drawn)
    for found in (drawn, vae.reconstruct([EVIL, "a b"]), vae.decode(vae.encode(["c d"]))):
        assert page(found).tables[0][1:] == [[text] for text in found]
        assert isinstance(found, list)
    (near,) = vae.neighbors(["a"], ["a b", EVIL], n=2)
    assert page(near).tables[0][1:] == [[f"{each.score:.4g}", str(each.line), each.text] for each in near]
    (filled,) = vae.impute(["a ___"], n=2)
    assert [row[2] for row in page(filled).tables[0][1:]] == [each.text for each in filled]


def test_a_list_that_is_shown_is_copied_compared_and_changed_as_any_other():
    found = Shown(["b", "a"], "text")
    assert found == ["b", "a"]
    assert repr(found) == "['b', 'a']"
    found.sort()
    for each in (found, copy.deepcopy(found), pickle.loads(pickle.dumps(found))):
        assert page(each).tables == [[["text"], ["a"], ["b"]]]


def test_a_report_shows_its_numbers_and_its_verdict(report):
    found = page(report)
    cells = {row[0]: row[1] for row in found.tables[0][1:]}
    assert cells["rec"] == f"{report.rec_nats:,.3f}"
    assert cells["sentences"] == "30"
    assert found.paragraphs[0] == "texts split, nats per sentence"
    assert report.verdict.text in found.paragraphs
    assert set(report.verdict.evidence) <= set(found.paragraphs)


def test_a_diagnosis_shows_evidence_units_and_what_to_try(report):
    collapsed = replace(report, verdict=Verdict(collapsed=True, text=EVIL), mi_nats=0.01, kl_nats=0.01)
    diagnosis = diagnose(collapsed, Config.from_yaml("tiny.yaml", ["objective.strategies=[]"]))
    found = page(diagnosis)
    assert EVIL in found.paragraphs
    evidence, units, tried = found.tables
    assert [row[0] for row in evidence[1:]] == [each.name for each in diagnosis.findings]
    assert [row[3] for row in units[1:]] == [unit.state for unit in diagnosis.units]
    assert [row[1] for row in tried[1:]] == [remedy.reason for remedy in diagnosis.remedies]
    assert page(diagnose(collapsed)).tables[-1] == units


def test_scores_show_a_row_for_each_sentence(vae):
    scores = vae.score(["a", "b c d"])
    assert [row[2] for row in page(scores).tables[0][1:]] == ["2", "4"]


def test_a_comparison_shows_values_and_differences():
    runs = [
        Measured(name=name, report={"elbo_nats": nats, "elbo_se": 0.5, "mi_nats": 1.0}, settings={"model": {"z": nats}})
        for name, nats in (("runs/a", 20.0), (EVIL, 18.5))
    ]
    found = page(compare(runs, split="test"))
    values, gaps = found.tables
    assert values == [["", "-ELBO", "MI"], ["runs/a", "20.00 ± 0.50", "1"], [EVIL, "18.50 ± 0.50", "1"]]
    assert gaps[1][:2] == [EVIL, "-1.50 ± 0.71"]
    assert f"{EVIL}: noise of sentences" in found.paragraphs
    assert page(compare(runs[:1], split="test", metrics=["mi_nats"])).tables == [[["", "MI"], ["runs/a", "1"]]]
