"""Token embeddings that begin as word vectors from a file (``train.pretrained_embeddings``)."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.data.tokenizers import Tokenizer
from seqvae.data.vectors import WordVectors, read_vectors, vector_size
from seqvae.errors import SeqVAEError
from seqvae.models.vae import SeqVAE
from seqvae.training.phases import Phase
from seqvae.training.settings import PretrainedEmbeddingsConfig
from seqvae.types import SPECIALS


class PretrainedEmbeddings:
    """The embeddings of a model that begin as word vectors; taken out of training at once where they are frozen.

    Frozen is the whole embedding, words without a vector too: the static variant of Kim (2014, "Convolutional neural
    networks for sentence classification", section 3.1). A run that is resumed has its embeddings in its checkpoint and
    needs no `write`. Errors: E228 where there is no part to begin so, E229 where a reset would undo it.
    """

    def __init__(self, config: PretrainedEmbeddingsConfig, model: SeqVAE, phases: Sequence[Phase]):
        modules = {"encoder": model.encoder, "decoder": model.decoder}
        self.config, self.tied = config, model.config.decoder.tie_weights
        self.embeddings: dict[str, nn.Embedding] = {
            part: module.embedding for part, module in modules.items() if part in config.parts and module is not None
        }
        """By part; a language model has no encoder."""
        self._check(phases)
        for embedding in self.embeddings.values():
            embedding.weight.requires_grad_(not config.freeze)

    def _check(self, phases: Sequence[Phase]) -> None:
        if not self.embeddings:
            what = "`train.pretrained_embeddings.parts` names only the encoder, and a language model has none"
            raise SeqVAEError("E228", what, hint="name the decoder, or set `model.latent_dim` above 0")
        for phase in phases:
            lost = [part for part in phase.reset if part in self.embeddings]
            if lost and not self.config.freeze:
                raise SeqVAEError(
                    "E229",
                    f"the reset of the {lost[0]} would draw its pretrained embeddings anew",
                    where=f"phase `{phase.name}`",
                    hint="set `train.pretrained_embeddings.freeze: true`, or leave out the reset "
                    f"or the {lost[0]} in `train.pretrained_embeddings.parts`",
                )

    @torch.no_grad()
    def write(self, tokenizer: Tokenizer) -> list[str]:
        """Read the file and write its vectors into the embeddings; notes on what was found.

        A token is looked for as `Tokenizer.vocabulary` has it: a word, a character, a SentencePiece piece with its
        ``▁``. Special tokens never are: they, and tokens that the file does not have, keep their random vectors,
        scaled to the standard deviation of the pretrained ones (Kim 2014, section 4.3). Errors: E227 where the sizes
        differ, and those of `read_vectors`.
        """
        size = vector_size(self.config.path)
        unfit = {part: each.embedding_dim for part, each in self.embeddings.items() if each.embedding_dim != size}
        if unfit:
            raise self._unfit(unfit, size)
        words = {word: row for row, word in enumerate(tokenizer.vocabulary) if row >= len(SPECIALS)}
        found = read_vectors(self.config.path, words)
        rows = torch.tensor(list(found.vectors))
        vectors = torch.stack([torch.from_numpy(vector) for vector in found.vectors.values()])
        for embedding in self.embeddings.values():
            _write(embedding.weight, rows.to(embedding.weight.device), vectors.to(embedding.weight))
        return self._notes(found, len(words), tokenizer.unit)

    def _unfit(self, unfit: Mapping[str, int], size: int) -> SeqVAEError:
        present = " and ".join(f"`model.{part}.embedding` is {value}" for part, value in unfit.items())
        wanted = " and ".join(f"`model.{part}.embedding: {size}`" for part in unfit)
        if "decoder" in unfit and self.tied:
            wanted += f", and with `tie_weights` `model.decoder.hidden: {size}` too"
        what = f"the vectors of the file have {size} numbers; {present}"
        return SeqVAEError("E227", what, where=str(self.config.path), hint=f"set {wanted}")

    def _notes(self, found: WordVectors, tokens: int, unit: str) -> list[str]:
        name, many = self.config.path.name, "s" if tokens != 1 else ""
        known = f"{len(found.vectors):,} of {tokens:,} {unit}{many} ({len(found.vectors) / tokens:.0%})"
        fixed = ", and are kept fixed" if self.config.freeze else ""
        parts = " and ".join(self.embeddings)
        notes = [f"{known} have a pretrained vector; the embeddings of {parts} begin as those of {name}{fixed}"]
        if found.repeated:
            again = f"{found.repeated:,} more vector{'s' if found.repeated > 1 else ''}"
            notes.append(f"{name} has {again} for tokens that it had before: the first one counts")
        return notes + found.notes


def _write(weight: Float[Tensor, "V D"], rows: Int[Tensor, " F"], vectors: Float[Tensor, "F D"]) -> None:
    others = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
    others[rows] = False
    spread = vectors.std(correction=0)
    if spread > 0:  # the special tokens are always among the others
        weight[others] *= spread / weight[others].std(correction=0)
    weight[rows] = vectors
