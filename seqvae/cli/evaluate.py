"""``seqvae eval``."""

from pathlib import Path
from typing import Annotated

import typer

from seqvae.cli.console import emit_json, run_verb, say
from seqvae.cli.options import DeviceOption, JsonOption, ModelOption, Split, load_model, read_sentences, run_config
from seqvae.cli.progress import evaluation_display
from seqvae.errors import SeqVAEError


@run_verb()
def evaluate(
    model: ModelOption = None,
    split: Annotated[Split, typer.Option(help="Part of the model's own data to measure on.")] = "test",
    file: Annotated[
        Path | None, typer.Option("--input", metavar="FILE", help="Measure on this text instead, one sentence a line.")
    ] = None,
    iw_samples: Annotated[
        int | None,
        typer.Option(
            metavar="K", min=1, help="Samples of z for each sentence.", show_default="eval.iw_samples of the run, 500"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Seed of the samples.", show_default="eval.seed of the run, 0"),
    ] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Measure a model, and judge whether its code is used.

    All in nats per sentence. -ELBO = rec + KL bounds the negative log-likelihood from above, IW-NLL more tightly; PPL
    is exp(nats / predicted tokens), the end of a sentence counted. MI is over the whole split (ceiling: ln N); a unit
    is active where its mean varies by 0.01 or more; the swap gap is the rise of rec when sentences swap their codes.
    """
    from seqvae.evaluation.report import EvalConfig
    from seqvae.textvae import evaluate as measure

    vae, folder = load_model(model, device)
    store = read_sentences(folder, vae, split, file)
    config = run_config(folder)
    settings = EvalConfig() if config is None else config.eval
    given = {"iw_samples": iw_samples, "seed": seed}
    settings = settings.model_copy(update={name: value for name, value in given.items() if value is not None})
    name = split if file is None else file.name
    with evaluation_display(len(store)) as on_progress:
        report = measure(vae, store, split=name, config=settings, on_progress=on_progress)
    if file is None:
        _keep(folder, split, report.to_dict(), vae.weights_sha256)
    if json:
        emit_json(report.to_dict())
    else:
        from rich.console import Console

        Console(highlight=False).print(report, crop=False)


def _keep(folder: Path, split: str, report: dict, weights_sha256: str | None) -> None:
    """Add the numbers to the model folder, where it may be written and still holds what was measured."""
    from seqvae.io import pretrained

    try:
        pretrained.keep_evaluation(folder, split, report, weights_sha256=weights_sha256)
    except SeqVAEError as error:
        say(f"note     the numbers were not kept in {folder}: {error.what}")
