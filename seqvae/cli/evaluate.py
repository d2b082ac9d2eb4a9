"""``seqvae eval``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqvae.bounds import MOST_SENTENCES
from seqvae.cli import completion
from seqvae.cli.console import emit_json, run_verb, say
from seqvae.cli.options import (
    DeviceOption,
    JsonOption,
    ModelOption,
    Split,
    SplitOption,
    iw_samples_option,
    labels_of_input,
    load_model,
    read_sentences,
    run_config,
    seed_option,
    split_to_measure,
    text_settings,
)
from seqvae.cli.progress import evaluation_display
from seqvae.cli.sentences import ColumnOption, refuse_column_alone
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    import numpy as np

    from seqvae.data.store import TokenStore
    from seqvae.evaluation.surroundings import Surroundings
    from seqvae.textvae import TextVAE


@run_verb()
def evaluate(
    model: ModelOption = None,
    split: SplitOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Measure on this text instead: one sentence a line, or a table."),
    ] = None,
    column: ColumnOption = None,
    suite: Annotated[
        Literal["basic", "full"],
        typer.Option(help="full: samples, paths, probes and the rest besides; minutes on a CPU."),
    ] = "basic",
    language_model: Annotated[
        Path | None,
        typer.Option(
            "--language-model",
            metavar="DIR",
            help="full: a run with latent_dim 0, to judge fluency.",
            autocompletion=completion.runs,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=MOST_SENTENCES,
            help="full: samples to write.",
            show_default="eval.samples of the run, 2000",
        ),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="full: pairs of sentences with scores of similarity, a TSV.")
    ] = None,
    pair_columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,S",
            help="Its columns by name or number: both sentences, score.",
            show_default="SICK, STS-B, or three columns",
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=2, help="full: every N lines are paraphrases.", show_default="5 for flickr30k_captions"
        ),
    ] = None,
    iw_samples: Annotated[
        int | None,
        iw_samples_option("Samples of z for each sentence.", show_default="eval.iw_samples of the run, 500"),
    ] = None,
    seed: Annotated[int | None, seed_option("Seed of the samples.", show_default="eval.seed of the run, 0")] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Measure a model, and judge whether its code is used.

    All in nats per sentence. -ELBO = rec + KL bounds the negative log-likelihood from above, IW-NLL more tightly; PPL
    is exp(nats / predicted tokens), the end of a sentence counted. MI is over the whole split (ceiling: ln N); a unit
    is active where its mean varies by 0.01 or more; the swap gap is the rise of rec when sentences swap their codes.

    The full suite adds the aggregate posterior against the prior, samples beside real text (forward and reverse
    perplexity, variety, novelty), paths between sentences, and what the code knows: probes of the labels beside the
    text, paraphrases, human similarity.
    """
    from seqvae.evaluation.report import EvalConfig

    extras = {
        "--language-model": language_model,
        "--samples": samples,
        "--pairs": pairs,
        "--pair-columns": pair_columns,
        "--group-size": group_size,
    }
    unused = [name for name, value in extras.items() if value is not None]
    if suite == "basic" and unused:
        raise SeqVAEError("E293", f"{unused[0]} is for the full suite", hint="add `--suite full`")
    refuse_column_alone(column, file)
    vae, folder = load_model(model, device)
    split = split_to_measure(folder, split, file)
    reading = {"text_column": column, **labels_of_input(folder, vae, file)}
    store = read_sentences(folder, vae, split, file, **reading)
    config = run_config(folder)
    settings = EvalConfig() if config is None else config.eval
    given = {"iw_samples": iw_samples, "seed": seed, "samples": samples}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    around = None
    if suite == "full":
        around = _surroundings(
            vae,
            folder,
            store,
            split=split,
            file=file,
            reading=reading,
            language_model=language_model,
            pairs=pairs,
            columns=pair_columns,
            group_size=group_size,
            device=device,
        )
    name = split if file is None else file.name
    with evaluation_display(len(store)) as on_progress:
        measured: dict[str, Any] = {"split": name, "config": settings, "on_progress": on_progress}
        if around is None:
            from seqvae.textvae import evaluate as measure

            report = basic = measure(vae, store, **measured)
        else:
            from seqvae.evaluation.suite import evaluate_fully

            measured |= {"around": around, "noiseless": vae.noiseless, "on_stage": lambda name: say(f"measure  {name}")}
            report = evaluate_fully(vae.model, vae.tokenizer, store, **measured)
            basic = report.basic
    if file is None:
        _keep(folder, split, report.to_dict(), vae.weights_sha256, basic.by_sentence)
    if json:
        emit_json(report.to_dict())
    else:
        from rich.console import Console

        Console(highlight=False).print(report, crop=False)


def _surroundings(
    vae: "TextVAE",
    folder: Path,
    store: "TokenStore",
    *,
    split: Split,
    file: Path | None,
    reading: Mapping[str, str | bool | None],
    language_model: Path | None,
    pairs: Path | None,
    columns: str | None,
    group_size: int | None,
    device: str,
) -> "Surroundings":
    from seqvae.evaluation.fluency import LanguageModel
    from seqvae.evaluation.surroundings import read_pairs, surroundings_of

    if columns is not None and pairs is None:
        raise SeqVAEError("E293", "--pair-columns names columns of --pairs", hint="add `--pairs FILE`")
    config = run_config(folder)
    judge = None
    if language_model is not None:
        other, _ = load_model(language_model, device)
        judge = LanguageModel(other.model, other.tokenizer)
    else:
        say("note     without --language-model, the fluency of samples and paths is not measured")
    data, part = text_settings(folder, split, file, **reading)
    return surroundings_of(
        None if config is None else config.data,
        vae.tokenizer,
        store,
        data=data,
        split=part,
        group_size=group_size,
        language_model=judge,
        pairs=None if pairs is None else read_pairs(pairs, None if columns is None else columns.split(",")),
    )


def _keep(
    folder: Path, split: str, report: dict, weights_sha256: str | None, by_sentence: Mapping[str, "np.ndarray"]
) -> None:
    """Add the numbers to the model folder, where it may be written and still holds what was measured."""
    from seqvae.io import pretrained

    try:
        pretrained.keep_evaluation(folder, split, report, weights_sha256=weights_sha256, by_sentence=by_sentence)
    except SeqVAEError as error:
        say(f"note     the numbers were not kept in {folder}: {error.what}")
