"""How a mistake is shown: the code, the place with a caret under it, the next step, all in plain text."""

import pickle

import pytest

from seqvae.errors import EXCERPT_COLUMNS, Location, SeqVAEError


def test_an_error_shows_code_place_excerpt_and_next_step():
    where = Location("my.yaml", 12, 3, "  stpes: 500", 5)
    error = SeqVAEError("E204", "`train.stpes` is not a setting", where=where, hint="did you mean `steps`?")
    assert str(error) == (
        "error[E204]: `train.stpes` is not a setting\n"
        "  --> my.yaml:12:3\n"
        "    |\n"
        " 12 |   stpes: 500\n"
        "    |   ^^^^^\n"
        "help: did you mean `steps`?"
    )


def test_an_error_without_a_place_is_one_line():
    assert str(SeqVAEError("E501", "the loss is not finite")) == "error[E501]: the loss is not finite"


def test_further_mistakes_follow_a_line_each():
    error = SeqVAEError("E204", "first", also=["a.yaml:2:1: second", "a.yaml:3:1: third"])
    assert str(error) == "error[E204]: first\nand 2 more:\n  a.yaml:2:1: second\n  a.yaml:3:1: third"


@pytest.mark.parametrize(("code", "exit_code"), [("E204", 2), ("E301", 3), ("E401", 4), ("E501", 5), ("E701", 7)])
def test_the_exit_code_is_the_first_digit(code, exit_code):
    assert SeqVAEError(code, "x").exit_code == exit_code


def test_a_place_in_an_argument_has_no_line():
    assert str(Location("--set", None, 7, "train.x=1")) == "--set"


def test_a_long_line_is_shown_around_the_place():
    text = "a" * 700 + "WRONG" + "b" * 900
    lines = str(SeqVAEError("E203", "x", where=Location("f", 1, 701, text, 5))).splitlines()
    shown, caret = lines[3], lines[4]
    assert len(shown) <= EXCERPT_COLUMNS + 10
    assert shown[caret.index("^") : caret.rindex("^") + 1] == "WRONG"


def test_the_caret_stays_under_wide_characters():
    lines = str(SeqVAEError("E203", "x", where=Location("f", 1, 4, "日本: 東京", 1))).splitlines()
    assert lines[4] == "   | " + " " * 5 + "^"
    lines = str(SeqVAEError("E203", "x", where=Location("f", 1, 5, "日本: 東京", 2))).splitlines()
    assert lines[4].endswith("^^^^")


def test_the_caret_stays_under_marks_that_take_no_column():
    """Thai and Devanagari vowel signs, of which most have no combining class."""
    lines = str(SeqVAEError("E203", "x", where=Location("f", 1, 9, "ที่นี่ กก x", 2))).splitlines()
    assert lines[4] == "   | " + " " * 4 + "^^"


def test_text_from_a_file_cannot_steer_the_terminal():
    where = Location("f\x1b[2J", 1, 2, "a\x1b[31m\tb", 1)
    shown = str(SeqVAEError("E203", "bad `\x1b]0;x\x07`", where=where, hint="h\x9b", also=["\u202ereversed"]))
    assert not any(char in shown for char in "\x1b\x07\x9b\u202e\t")
    assert "bad `\\x1b]0;x\\x07`" in shown


def test_an_error_travels_between_processes_whole():
    error = SeqVAEError("E303", "bad byte", where=Location("a.txt", 3, 1), hint="save as UTF-8", also=["b"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
