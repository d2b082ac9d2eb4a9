"""The encoder: a sentence to one vector of features, from which the posterior's parameters are read."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seqvae import gaussian
from seqvae.models.dropout import OVER, DropoutOver, make_dropout
from seqvae.models.recurrent import Cell, SentenceNetwork


class EncoderConfig(BaseModel):
    """Settings of the encoder (``model.encoder``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell = Field("lstm", description="kind of recurrent cell")
    embedding: int = Field(256, ge=1, description="size of a token's embedding")
    hidden: int = Field(256, ge=1, description="units of each direction")
    layers: int = Field(1, ge=1, le=64, description="recurrent layers")
    bidirectional: bool = Field(False, description="read each sentence in both directions")
    pooling: Literal["last", "mean", "max"] = Field(
        "last",
        description="what represents the sentence: the state after its last token, or the mean or maximum of all",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate on the token embeddings")
    dropout_over: DropoutOver = Field("tokens", description=OVER)


class Encoder(nn.Module):
    """Embedding + LSTM or GRU + pooling: ``tokens [B T], lengths [B] -> features [B H]``."""

    def __init__(self, config: EncoderConfig, vocab_size: int):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        self.dropout = make_dropout(config.dropout, config.dropout_over)
        network = SentenceNetwork(
            cell=config.cell,
            inputs=config.embedding,
            hidden=config.hidden,
            layers=config.layers,
            bidirectional=config.bidirectional,
        )
        setattr(self, config.cell, network)  # its saved weights bear the name of the cell
        self.features = config.hidden * network.directions

    @property
    def network(self) -> SentenceNetwork:
        """The recurrent layers."""
        return getattr(self, self.config.cell)

    def forward(self, tokens: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """Features of each sentence (BOS and EOS are read); the same whatever the padding and the other rows."""
        return self.read(self.dropout(self.embedding(tokens)), lengths)

    def read(self, inputs: Float[Tensor, "B T E"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """Features of sequences of embeddings, whether of words or not."""
        outputs = gaussian.wide(self.network(inputs, lengths))
        if self.config.pooling == "last":
            return self._final_states(outputs, lengths)
        inside = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
        if self.config.pooling == "mean":
            return torch.where(inside[:, :, None], outputs, 0.0).sum(1) / lengths[:, None]
        return torch.where(inside[:, :, None], outputs, -torch.inf).amax(1)

    def _final_states(self, outputs: Float[Tensor, "B T H"], lengths: Int[Tensor, " B"]) -> Float[Tensor, "B H"]:
        """The state of each direction after the last token that it reads: the first one for the backward direction."""
        rows = torch.arange(lengths.shape[0], device=lengths.device)  # len() would be a constant in an exported graph
        size = self.config.hidden
        ahead = outputs[rows, lengths - 1, :size]
        return ahead if self.network.directions == 1 else torch.cat([ahead, outputs[:, 0, size:]], dim=-1)
