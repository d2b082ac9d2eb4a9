"""neighbors, analogy, traverse, shift and impute as a user meets them: lines to read and cut, JSON, reasons."""

import json
import re
import shutil

import pytest

from seqvae.config import Config
from seqvae.io import pretrained

A, B, C = "the cat ate some tea", "the cat saw some tea", "she ate a cake"


def lines(result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def rows(result) -> list[list[str]]:
    return [line.split("\t") for line in lines(result)]


@pytest.fixture
def labelled(tmp_path, workplace):
    """The training text with labels beside it: who it is about."""
    text = (workplace / "train.txt").read_text(encoding="utf-8")
    (tmp_path / "who.txt").write_text(text, encoding="utf-8")
    words = ["she" if line.startswith("she") else "others" for line in text.splitlines()]
    (tmp_path / "who.labels").write_text("\n".join(words) + "\n", encoding="utf-8")
    (tmp_path / "who.subject.labels").write_text("\n".join(words) + "\n", encoding="utf-8")
    (tmp_path / "who.csv").write_text(
        "text,subject\n" + "".join(f"{t},{w}\n" for t, w in zip(text.splitlines(), words, strict=True)),
        encoding="utf-8",
    )
    return tmp_path


def test_a_training_text_that_no_disk_holds_is_not_read(desk, tmp_path, trained):
    shutil.copytree(trained, tmp_path / "runs")
    path = tmp_path / "runs/vae/config.yaml"
    config = Config.from_yaml(path).replace(**{"data.train": "hub:some/thing", "data.shards": True})
    path.write_text(config.to_yaml(), encoding="utf-8")
    for arguments in (
        ("neighbors", A),
        ("traverse", A),
        ("shift", A, "--toward", "she"),
        ("sample", "--from=aggregate"),
    ):
        result = desk(*arguments, "--model", "runs/vae")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "error[E220]: the training text is dealt out by data.shards" in result.stderr
        assert "`--input FILE`" in result.stderr
    assert lines(desk("neighbors", A, "--split", "valid", "--model", "runs/vae"))
    for verb in (("bench",), ("data", "prepare")):
        result = desk(*verb, "--config", "runs/vae/config.yaml")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "error[E220]: the training text is dealt out by data.shards" in result.stderr
        assert "data.shards=false" in result.stderr


class TestNeighbors:
    def test_each_line_is_score_line_and_sentence_nearest_first(self, verb, workplace):
        found = rows(verb("neighbors", A, "-n", 4))
        corpus = (workplace / "train.txt").read_text(encoding="utf-8").splitlines()
        assert len(found) == 4
        scores = [float(score) for score, _, _ in found]
        assert scores == sorted(scores, reverse=True)
        assert all(corpus[int(line) - 1] == text for _, line, text in found)
        assert "cosine" in verb("neighbors", A).stderr
        near = [float(score) for score, _, _ in rows(verb("neighbors", A, "--by", "euclidean"))]
        assert near == sorted(near)

    def test_several_sentences_stand_over_what_was_found(self, verb):
        found = lines(verb("neighbors", A, B, "-n", 2))
        assert [found[0], found[3]] == [A, B]
        assert all(line.startswith("  ") for place, line in enumerate(found) if place not in (0, 3))

    def test_json_and_a_corpus_of_ones_own(self, verb):
        found = json.loads(verb("neighbors", A, "-n", 3, "--input", "valid.txt", "--json").stdout)
        assert found[0]["text"] == A
        assert [set(each) for each in found[0]["neighbors"]] == [{"score", "text", "line"}] * 3
        assert found[0]["neighbors"][0]["line"] <= 30

    def test_sentences_from_standard_input(self, verb):
        assert len(json.loads(verb("neighbors", "-", "--json", stdin=f"{A}\n{B}\n").stdout)) == 2


class TestAnalogy:
    def test_one_line_as_python_gives_it(self, verb):
        expected = pretrained.load("runs/vae").analogy(A, B, C)
        assert lines(verb("analogy", A, B, C)) == [expected]
        assert json.loads(verb("analogy", A, B, C, "--json").stdout) == {"text": expected}


class TestTraverse:
    def test_each_line_is_dimension_place_and_sentence(self, verb):
        result = verb("traverse", A, "--dim", 2, "--dim", 0, "--steps", 3, "--range", 1.5)
        assert [row[:2] for row in rows(result)] == [
            [dim, t] for dim in ("2", "0") for t in ("-1.50", "+0.00", "+1.50")
        ]
        assert re.search(r"deviations of 200 sentences; \d of 3 dimensions are active", result.stderr)
        assert "the sentence itself is at" in result.stderr

    def test_all_dimensions_and_json(self, verb):
        found = json.loads(verb("traverse", A, "--dim", "all", "--steps", 2, "--split", "valid", "--json").stdout)
        assert [each["dim"] for each in found] == [0, 1, 2]
        for each in found:
            for point in each["points"]:
                assert point["value"] == pytest.approx(each["mean"] + point["t"] * each["deviation"], abs=1e-5)

    def test_a_dimension_that_is_none_is_refused(self, verb):
        for wrong in ("3", "first"):
            result = verb("traverse", A, "--dim", wrong)
            assert (result.exit_code, result.stdout) == (2, "")
            assert "error[E297]" in result.stderr
        assert "stands alone" in verb("traverse", A, "--dim", "all", "--dim", 1).stderr


class TestShift:
    @pytest.mark.parametrize(
        "corpus", [["who.txt"], ["who.txt", "--labels", "subject"], ["who.csv", "--label-column", "subject"]]
    )
    def test_each_line_is_strength_and_sentence_wherever_the_labels_stand(self, verb, labelled, corpus):
        file, *options = corpus
        result = verb("shift", A, "--toward", "she", "--input", labelled / file, *options)
        found = rows(result)
        assert [strength for strength, _ in found] == ["+0.00", "+0.50", "+1.00", "+1.50", "+2.00"]
        assert found[0][1] == lines(verb("reconstruct", A))[0]
        assert re.search(r"\d+ sentences with 'she', \d+ with other labels", result.stderr)

    def test_strengths_may_be_chosen_and_json_holds_every_sentence(self, verb, labelled):
        arguments = ("--toward", "she", "--input", labelled / "who.txt", "--by", -1, "--by", 3)
        found = json.loads(verb("shift", A, B, *arguments, "--json").stdout)
        assert [each["text"] for each in found] == [A, B]
        assert [[point["by"] for point in each["points"]] for each in found] == [[-1.0, 3.0]] * 2
        shown = lines(verb("shift", A, B, *arguments))
        assert [shown[0], shown[3]] == [A, B]


class TestImpute:
    def test_each_line_is_share_score_and_sentence_best_first(self, verb):
        result = verb("impute", "the ___ ate some ___", "-n", 3)
        found = rows(result)
        assert [re.fullmatch(r"the \S+ ate some \S+", text) is not None for *_, text in found] == [True] * 3
        scores = [float(nats) for _, nats, _ in found]
        assert scores == sorted(scores)
        assert 0 < sum(float(share) for share, _, _ in found) <= 1.001
        assert "IW-NLL in nats, from 100 samples" in result.stderr
        assert "___" not in result.stderr

    @pytest.mark.parametrize(("run", "told"), [("lm", "exact"), ("ae", "rec in nats")])
    def test_other_models_say_what_their_scores_are(self, verb, run, told):
        result = verb("impute", "the ___ ate", "--model", f"runs/{run}", "-n", 2)
        assert len(lines(result)) == 2
        assert told in result.stderr

    def test_a_blank_line_has_no_candidates_and_a_line_without_a_gap_is_named(self, verb, tmp_path):
        text = "a ___\n\nshe ___\nthe cat\n"
        (tmp_path / "gaps.txt").write_text(text, encoding="utf-8")
        for given, name in ((("-",), "standard input"), (("--input", tmp_path / "gaps.txt"), tmp_path / "gaps.txt")):
            result = verb("impute", *given, "-n", 1, stdin=text)
            assert result.exit_code == 2
            assert [line for line in result.stdout.splitlines() if "\t" not in line] == ["a ___", "", "she ___"]
            assert len(result.stdout.splitlines()) == 5
            assert f"error[E298]: there is no gap to fill in the text\n  --> {name}:4\n" in result.stderr
            assert "4 | the cat\n" in result.stderr

    def test_lines_of_a_pipe_and_gaps_of_any_length(self, verb):
        found = json.loads(verb("impute", "-", "--most", 1, "--json", stdin="she ___* a cake\na ___\n").stdout)
        assert [each["text"] for each in found] == ["she ___* a cake", "a ___"]
        assert all({*each["candidates"][0]} == {"text", "fills", "nats", "share"} for each in found)
        assert {len(one["text"].split()) for one in found[0]["candidates"]} <= {3, 4}
