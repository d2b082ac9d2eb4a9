"""sample, interpolate and reconstruct as a user meets them: one line per sentence, repeatable, honest on stderr."""

import json
import re

import pytest

WORDS = {
    *("the", "cat", "a", "dog", "my", "friend", "she", "saw", "liked", "ate", "cake", "some", "tea", "at", "night")
}


def lines(result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def refusal(result, code: str) -> str:
    """The message of a verb that was refused with ``code``, and printed nothing else."""
    assert (result.exit_code, result.stdout) == (int(code[1]), ""), result.stdout
    assert f"error[{code}]" in result.stderr, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--greedy",),
        ("--beam", 3),
        ("--temperature", 0.7, "--top-k", 5, "--top-p", 0.9),
        ("--from", "aggregate"),
        ("--from", "aggregate", "--input", "valid.txt"),
        ("--model", "runs/lm"),
    ],
)
def test_sample_writes_as_many_sentences_as_asked_and_nothing_else(verb, options):
    found = lines(verb("sample", "-n", 6, "--max-length", 30, *options))
    assert len(found) == 6
    assert {word for line in found for word in line.split()} <= WORDS
    assert max(len(line.split()) for line in found) <= 30


def test_no_sentences_are_no_lines(verb):
    assert verb("sample", "-n", 0).stdout == ""
    assert json.loads(verb("sample", "-n", 0, "--json").stdout) == []


def test_json_holds_the_same_sentences(verb):
    arguments = ("sample", "-n", 4, "--seed", 5)
    assert json.loads(verb(*arguments, "--json").stdout) == [{"text": line} for line in lines(verb(*arguments))]
    arguments = ("reconstruct", "the cat ate some tea", "")
    assert json.loads(verb(*arguments, "--json").stdout) == [{"text": line} for line in lines(verb(*arguments))]
    arguments = ("interpolate", "the cat ate some tea", "she saw a cake", "--steps", 3)
    points = json.loads(verb(*arguments, "--json").stdout)
    assert [point.keys() for point in points] == [{"t", "text"}] * 3
    assert [f"{point['t']:.2f}  {point['text']}" for point in points] == lines(verb(*arguments))


@pytest.mark.parametrize("options", [(), ("--from", "aggregate")])
def test_a_seed_repeats_a_sample_and_a_new_one_is_named(verb, options):
    drawn = verb("sample", "-n", 5, *options)
    seed = re.search(r"^seed +(\d+)$", drawn.stderr, re.MULTILINE)[1]
    again = verb("sample", "-n", 5, "--seed", seed, *options)
    assert lines(again) == lines(drawn)
    assert "seed" not in again.stderr
    assert lines(verb("sample", "-n", 5, "--seed", int(seed) + 1, *options)) != lines(drawn)


def test_reconstruct_names_a_seed_only_where_it_draws(verb):
    assert "seed" not in verb("reconstruct", "she saw a cake").stderr
    drawn = verb("reconstruct", "she saw a cake", "--temperature", 1)
    seed = re.search(r"^seed +(\d+)$", drawn.stderr, re.MULTILINE)[1]
    assert lines(verb("reconstruct", "she saw a cake", "--temperature", 1, "--seed", seed)) == lines(drawn)


def test_samples_from_a_text_say_what_they_are_drawn_from(verb):
    assert "codes    from 6 Gaussians, fitted to the posterior draws of 200 sentences of the training text" in (
        verb("sample", "--from", "aggregate").stderr
    )
    assert "codes    from 1 Gaussian, fitted to the posterior draws of 30 sentences of valid.txt" in (
        verb("sample", "--from", "aggregate", "--input", "valid.txt").stderr
    )


def test_an_autoencoder_samples_from_its_codes_and_says_so(verb):
    assert "--from aggregate" in refusal(verb("sample", "--model", "runs/ae", "--from", "prior"), "E241")
    arguments = ("sample", "--model", "runs/ae", "-n", 2, "--seed", 3)
    by_itself, asked = verb(*arguments), verb(*arguments, "--from", "aggregate")
    assert len(lines(by_itself)) == 2
    assert lines(by_itself) == lines(asked)
    for result in (by_itself, asked):
        assert "posterior means of 200 sentences of the training text" in result.stderr
    assert "note     a plain autoencoder has no prior" in by_itself.stderr
    of_text = verb(*arguments, "--input", "valid.txt")
    assert "posterior means of 30 sentences of valid.txt" in of_text.stderr


def test_a_language_model_has_no_codes(verb):
    for arguments in (["sample", "--from", "aggregate"], ["reconstruct", "a"], ["interpolate", "a", "she"]):
        assert "language model" in refusal(verb(*arguments, "--model", "runs/lm"), "E243")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["sample", "--greedy", "--beam", 3], "E215", "--greedy and --beam contradict each other"),
        (["sample", "--greedy", "--top-k", 3], "E215", "--greedy and --top-k contradict each other"),
        (["sample", "--beam", 3, "--temperature", 0.5], "E215", "--beam and --temperature contradict each other"),
        (["reconstruct", "a", "--beam", 3, "--top-p", 0.5], "E215", "--beam and --top-p contradict each other"),
        (["sample", "--input", "valid.txt"], "E215", "--input and --from prior contradict each other"),
        (["sample", "--temperature", 0], "E231", "--greedy"),
        (["sample", "--temperature", "nan"], "E231", "not a positive number"),
        (["sample", "--top-p", 1.5], "E232", "not in (0, 1]"),
        (["sample", "--top-k", 0], "E233", "below 1"),
        (["sample", "--beam", 0], "E233", "below 1"),
        (["sample", "--device", "abacus"], "E207", "there is no device `abacus` here"),
        (["sample", "--from", "aggregate", "--input", "valid.tx"], "E301", "did you mean valid.txt?"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(verb, arguments, code, told):
    assert told in refusal(verb(*arguments), code)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sample", "-n", -1], "`-n / --number` should be greater than or equal to 0"),
        (["interpolate", "a", "b", "--steps", 0], "`--steps` should be greater than or equal to 1"),
        (["interpolate", "a", "b", "--path", "arc"], "`--path` cannot be `arc`"),
        (["interpolate", "a"], "needs `B`"),
        (["reconstruct"], "no sentences are given"),
        (["sample", "--sed", 3], "did you mean `--seed`?"),
    ],
)
def test_a_wrong_command_line_is_told_in_words(verb, arguments, told):
    result = verb(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_a_walk_has_both_ends_and_they_are_reconstructions(verb):
    a, b = "the cat ate some tea at night", "she saw a cake"
    walk = lines(verb("interpolate", a, b, "--steps", 5))
    assert [line[:6] for line in walk] == ["0.00  ", "0.25  ", "0.50  ", "0.75  ", "1.00  "]
    assert [walk[0][6:], walk[-1][6:]] == lines(verb("reconstruct", a, b))
    assert len(lines(verb("interpolate", a, b))) == 8
    for option in (("--path", "lerp"), ("--beam", 3)):
        assert len(lines(verb("interpolate", a, b, "--steps", 2, *option))) == 2


def test_a_single_step_is_the_start(verb):
    a, b = "the cat ate some tea", "she saw a cake"
    assert lines(verb("interpolate", a, b, "--steps", 1)) == ["0.00  " + lines(verb("reconstruct", a))[0]]


@pytest.mark.parametrize("text", ["", "   ", "she saw\na cake", "she\tsaw  a cake", "zzz", "é 日本 🙂", "cake " * 300])
def test_any_text_is_a_sentence_and_comes_back_as_one_line(verb, text):
    assert len(lines(verb("reconstruct", text, "she saw a cake"))) == 2
    assert len(lines(verb("interpolate", text, text, "--steps", 2))) == 2


def test_sentences_may_begin_with_a_dash(verb):
    assert len(lines(verb("reconstruct", "--", "-n", "--beam"))) == 2
    assert len(lines(verb("interpolate", "--steps", 2, "--", "- she saw", "-- a cake"))) == 2


def test_unknown_words_are_named_once_and_word_for_word(verb):
    told = verb("interpolate", "the zebra ate :cat: <unk>", "the zebra saw [bold]tea[/bold]").stderr
    assert "note     words that the model does not know: 'zebra', ':cat:', '[bold]tea[/bold]'\n" in told
    assert "note" not in verb("interpolate", "the cat", "she saw a cake").stderr
    many = verb("reconstruct", " ".join(f"x{n}" for n in range(13))).stderr
    assert "'x9' and 3 more" in many
    assert "'x10'" not in many


def test_an_unknown_word_cannot_steer_the_terminal(verb):
    assert "\x1b" not in verb("reconstruct", "\x1b[31mred").stderr


def test_unk_is_written_only_if_allowed(verb):
    """An untrained model writes every token now and then."""
    arguments = ("sample", "-n", 60, "--seed", 1, "--temperature", 50)
    assert "<unk>" not in verb(*arguments).stdout
    assert "<unk>" in verb(*arguments, "--allow-unk").stdout
