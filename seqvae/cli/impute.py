"""``seqvae impute``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqvae.cli.console import emit_json_list, emit_lines, run_verb, say
from seqvae.cli.options import (
    DeviceOption,
    JsonOption,
    LabelOption,
    ModelOption,
    iw_samples_option,
    load_model,
    seed_option,
    tell_unknown_words,
)
from seqvae.cli.sentences import STDIN_NAME, ColumnOption, InputOption, Sentences, TextsArgument
from seqvae.errors import Location, SeqVAEError

if TYPE_CHECKING:
    from seqvae.generation.imputation import ImputeConfig
    from seqvae.textvae import TextVAE


@run_verb()
def impute(
    texts: TextsArgument = None,
    file: InputOption = None,
    column: ColumnOption = None,
    n: Annotated[
        int, typer.Option("-n", "--number", metavar="N", min=1, max=1_000, help="Candidates for each sentence.")
    ] = 5,
    most: Annotated[int, typer.Option(metavar="N", min=0, max=1_000, help="Most words in place of ___*.")] = 3,
    iw_samples: Annotated[int, iw_samples_option("Samples of z behind each score.")] = 100,
    seed: Annotated[int, seed_option("Seed of the search and of the scores.")] = 0,
    model: ModelOption = None,
    label: LabelOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Fill the gaps of sentences: `seqvae impute "the ___ said it would ___"`.

    ___ stands for one word (in a model of characters or pieces, for one of those), ___* for none up to --most. Each
    line on stdout is a candidate, the best first: its share of the probability of all candidates that were scored, its
    score in nats (IW-NLL of the whole sentence, lower is likelier; exact for a language model; of a plain autoencoder
    -log p(x|z) at its own code) and the sentence, with tabs between them. A blank line of a file or of standard input
    has no candidates.

    Codes and words are drawn in turn, words by a beam search that sees what stands behind a gap. The search is not
    exhaustive: a word that it never wrote is not listed.
    """
    from seqvae.generation.imputation import ImputeConfig

    config = ImputeConfig(most=most, iw_samples=iw_samples)
    sentences = Sentences(texts, file, column)
    vae, _ = load_model(model, device)
    _tell_unknown(vae, sentences.arguments)
    say(f"score    {_meaning(vae, iw_samples)}")
    found = _found(vae, sentences, n, config, seed, label)
    if json:
        emit_json_list(found)
        return
    for each in found:
        lead = ""
        if len(sentences.arguments) != 1:
            emit_lines([each["text"]])
            lead = "  "
        emit_lines(f"{lead}{one['share']:.3f}\t{one['nats']:.4f}\t{one['text']}" for one in each["candidates"])


def _found(
    vae: "TextVAE", sentences: Sentences, n: int, config: "ImputeConfig", seed: int, label: str | None
) -> Iterator[dict[str, Any]]:
    """Each sentence with its candidates; a blank line has none. A line with gaps that cannot be filled is named."""
    for number, text in sentences.rows():
        candidates = []
        try:
            if text.strip() or not sentences.streamed:
                (candidates,) = vae.impute([text], n, config=config, seed=seed, label=label)
        except SeqVAEError as error:
            if error.code == "E298" and sentences.streamed:
                error.where = Location(sentences.file or STDIN_NAME, number, text=text, width=len(text))
            raise
        yield {"text": text, "candidates": [vars(each) for each in candidates]}


def _tell_unknown(vae: "TextVAE", arguments: list[str]) -> None:
    from seqvae.generation.gaps import MARK

    tell_unknown_words(vae, [MARK.sub(" ", text) for text in arguments])


def _meaning(vae: "TextVAE", samples: int) -> str:
    if vae.noiseless:
        return "rec in nats, -log p(x|z) at the code: a plain autoencoder has no likelihood"
    if vae.latent_dim == 0:
        return "the exact negative log-likelihood of a language model, in nats"
    return f"IW-NLL in nats, from {samples} sample{'' if samples == 1 else 's'} of z for each candidate"
