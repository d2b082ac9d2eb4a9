"""The corpora that benchmarks make: the same for a seed, sound where they should be, and spoilt where they say so."""

import random
import re
from collections import Counter

import pytest

from benchmarks import logs, smiles
from benchmarks.smiles_check import is_valid, problem

ROWS = 400


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("make", [smiles.main, logs.main])
def test_equal_seeds_give_equal_bytes(make, tmp_path, capsys):
    for name, seed in (("one", "3"), ("again", "3"), ("other", "4")):
        make(["--out", str(tmp_path / name), "--rows", "60", "--seed", seed])
    one, again, other = (files(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert one["train.txt"] != other["train.txt"]
    assert capsys.readouterr().out == ""
    assert all(content.endswith(b"\n") and b"\r" not in content for content in one.values())


class TestSmiles:
    molecules = smiles.molecules(ROWS, seed=0)

    def test_splits_have_their_sizes_and_nothing_in_common(self, tmp_path):
        smiles.write(tmp_path, ROWS, seed=1)
        splits = [(tmp_path / f"{name}.txt").read_text().splitlines() for name in ("train", "valid", "test")]
        assert [len(lines) for lines in splits] == [400, 40, 40]
        assert len({line for lines in splits for line in lines}) == 480

    def test_every_molecule_is_valid(self):
        assert {text: problem(text) for text in self.molecules if problem(text)} == {}

    def test_everything_that_is_promised_occurs(self):
        everything = "\n".join(self.molecules)
        for part in ("(", "=", "#", "c1", "C1", "2", "[nH]", "[NH3+]", "[O-]", "[N+]", "Cl", "Br", "F", "S", "s", "o"):
            assert part in everything, part
        assert any("(" in text and re.search(r"\([^()]*\([^()]*\)", text) for text in self.molecules)

    @pytest.mark.parametrize(
        "text",
        # Ethanol, acetic acid, aspirin, caffeine, paracetamol, naphthalene, alanine as a zwitterion, a ring number > 9.
        ["CCO", "CC(=O)O", "CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "CC(=O)Nc1ccc(O)cc1",
         "c1ccc2ccccc2c1", "CC([NH3+])C(=O)[O-]", "C%12CCCCC%12", "C=1CCCCC1", "[13CH4]", "N", "CS(=O)(=O)N"],
    )  # fmt: skip
    def test_the_check_takes_what_chemists_write(self, text):
        assert problem(text) is None

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "no atom"),
            ("CC(C", "not closed"),
            ("CC)C", "was not opened"),
            ("CC()C", "empty"),
            ("CC(=)C", "empty"),
            ("(C)C", "does not begin at an atom"),
            ("C((C))C", "does not begin at an atom"),
            ("C1CC", "ring 1 is not closed"),
            ("C1CC2", "ring 1 is not closed"),
            ("C1C1", "closes on the atom itself or on its neighbour"),
            ("C11", "closes on the atom itself or on its neighbour"),
            ("C=1CCCC#1", "different bonds"),
            ("1CC", "does not follow an atom"),
            ("C==C", "between two atoms"),
            ("=CC", "between two atoms"),
            ("CC=", "leads to no atom"),
            ("C(C=)C", "leads to no atom"),
            ("CXC", "cannot be read"),
            ("C[N+C", "cannot be read"),
            ("CN+]C", "cannot be read"),
            ("C[Xx]C", "no atom that is known"),
            ("C C", "cannot be read"),
            ("<unk>", "cannot be read"),
            ("CC(C)(C)(C)C", "atom 2 (C): 5 bonds"),
            ("CF=C", "atom 2 (F): 3 bonds"),
            ("C=O=C", "atom 2 (O): 4 bonds"),
            ("C[NH3+]C", "atom 2 (N): 5 bonds"),
            ("C[O-]C", "atom 2 (O): 2 bonds"),
            ("Ccc", "outside an aromatic ring"),
            ("c1cccc(C)(C)c1", "atom 5 (c): 4 bonds"),
        ],
    )
    def test_the_check_says_what_is_wrong(self, text, reason):
        assert reason in str(problem(text))

    def test_every_corruption_of_a_structure_is_found(self):
        """Whatever sign of a branch, ring or bracket is taken away or put in, the string is sound no more."""
        source, tried = random.Random(0), 0
        for text in self.molecules:
            inside = {place for bracket in re.finditer(r"\[[^]]*\]", text) for place in range(*bracket.span())}
            digits = {place for place, sign in enumerate(text) if sign.isdigit()} - inside
            places = digits | {place for place, sign in enumerate(text) if sign in "()[]"}
            for place in sorted(places):
                spoilt = text[:place] + text[place + 1 :]
                assert not is_valid(spoilt), f"{text} without sign {place}"
                tried += 1
            place = source.choice([place for place in range(len(text)) if place not in inside])
            for sign in ("(", ")", "()", "[", "9"):
                assert not is_valid(text[:place] + sign + text[place:]), f"{text} with {sign} at {place}"
        assert tried > ROWS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    logs.write(folder, 3_000, seed=2, anomalies=0.05)
    return {path.name: path.read_text().splitlines() for path in folder.iterdir()}


class TestLogs:
    def test_labels_stand_beside_their_lines_at_the_rate_asked_for(self, corpus):
        assert len(corpus["train.txt"]) == 3_000
        assert len(corpus["test.txt"]) == len(corpus["test.labels"]) == len(corpus["test.kind.labels"]) == 600
        assert Counter(corpus["test.labels"]) == {"0": 570, "1": 30}
        assert [label == "0" for label in corpus["test.labels"]] == [
            kind == "normal" for kind in corpus["test.kind.labels"]
        ]

    def test_every_kind_of_anomaly_occurs(self, corpus):
        assert set(corpus["test.kind.labels"]) == {
            "normal", "wrong_level", "other_component", "swapped_fields", "truncated", "noise",
        }  # fmt: skip

    def test_normal_lines_are_written_by_the_templates_and_anomalies_are_not(self, corpus):
        for line in corpus["train.txt"] + corpus["valid.txt"]:
            assert explained(line), line
        for line, kind in zip(corpus["test.txt"], corpus["test.kind.labels"], strict=True):
            assert explained(line) == (kind == "normal"), f"{kind}: {line}"

    def test_many_anomalies_are_none_that_a_template_could_have_written(self):
        source = logs.Logs(seed=5)
        assert [line for _, line in (source.anomaly() for _ in range(3_000)) if explained(line)] == []

    def test_addresses_are_those_kept_for_documentation(self, corpus):
        addresses = set(re.findall(r"\b(\d+\.\d+\.\d+)\.\d+\b", "\n".join(corpus["train.txt"])))
        assert addresses == {"192.0.2", "198.51.100", "203.0.113"}

    def test_no_message_has_two_levels_or_two_components(self):
        assert len({template.message for template in logs.TEMPLATES}) == len(logs.TEMPLATES)


SHAPES = {
    "id": r"[0-9a-f]{4}",
    "ip": r"\d+\.\d+\.\d+\.\d+",
    "path": "/(v1/(orders(/new)?|items(/search)?|users/me|cart)|health|login)",
    "ms": "(1|2|3|5|8|12|20|35|60|90)ms",
    "seconds": r"\d+s",
    "count": r"\d+",
    "percent": r"\d+%",
    "user": r"user\d+",
    "table": "(orders|items|users|sessions|invoices)",
    "queue": "(mail|invoice|search|export)",
    "file": r"/srv/data/[a-z]+-\d+\.csv",
    "shard": r"shard-\d+",
    "ok": "2\\d\\d",
    "bad": "5\\d\\d",
}
"""What the value of each field looks like."""

PATTERNS = [
    re.compile(
        f"{template.level} {template.component}: "
        + re.sub(r"\\{(\w+)\\}", lambda match: SHAPES[match[1]], re.escape(template.message))
    )
    for template in logs.TEMPLATES
]


def explained(line: str) -> bool:
    """Whether a line is one that a template writes, told by its shape."""
    return any(pattern.fullmatch(line) for pattern in PATTERNS)
