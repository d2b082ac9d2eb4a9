"""The decoder: an LSTM language model that a latent code z conditions at its start and at every step."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from seqvae.models.recurrent import causal_lstm


class DecoderConfig(BaseModel):
    """Settings of the decoder (``model.decoder``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding: int = Field(256, ge=1, description="size of a token's embedding")
    hidden: int = Field(256, ge=1, description="LSTM units of each layer")
    layers: int = Field(1, ge=1, le=64, description="LSTM layers")
    dropout_in: float = Field(0.5, ge=0, lt=1, description="dropout rate on the token embeddings")
    dropout_out: float = Field(
        0.5, ge=0, lt=1, description="dropout rate on the LSTM's outputs (and between its layers)"
    )
    z_to_state: bool = Field(True, description="z sets the initial state: c0 = W z, h0 = tanh(c0)")
    z_to_input: bool = Field(True, description="z is concatenated to the embedding at every step")
    tie_weights: bool = Field(False, description="the output layer uses the embedding's weights (sizes must be equal)")
    output_bias: bool = Field(False, description="the output layer has a bias")

    @model_validator(mode="after")
    def _check(self) -> "DecoderConfig":
        if self.tie_weights and self.embedding != self.hidden:
            raise ValueError(f"tie_weights needs embedding = hidden, not {self.embedding} and {self.hidden}")
        if not (self.z_to_state or self.z_to_input):
            raise ValueError("with z_to_state and z_to_input both false the decoder never sees z; set one of them true")
        return self


@dataclass(frozen=True)
class State:
    """LSTM state of N hypotheses: ``h`` and ``c`` are ``[layers N H]``."""

    h: Float[Tensor, "L N H"]
    c: Float[Tensor, "L N H"]

    def select(self, index: Int[Tensor, " M"]) -> "State":
        """The states of some hypotheses, in the order given (rows may repeat)."""
        return State(self.h.index_select(1, index), self.c.index_select(1, index))


class Decoder(nn.Module):
    """z-conditioned LSTM: h0, c0 and every input see z (Bowman et al. 2016; wiring of He et al. 2019)."""

    def __init__(self, config: DecoderConfig, vocab_size: int, latent_dim: int):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        self.input_z = config.z_to_input and latent_dim > 0
        inputs = config.embedding + (latent_dim if self.input_z else 0)
        between = config.dropout_out if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(inputs, config.hidden, config.layers, batch_first=True, dropout=between)
        size = config.hidden * config.layers
        self.state = nn.Linear(latent_dim, size, bias=False) if config.z_to_state and latent_dim > 0 else None
        self.dropout_in, self.dropout_out = nn.Dropout(config.dropout_in), nn.Dropout(config.dropout_out)
        self.output = None if config.tie_weights else nn.Linear(config.hidden, vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if config.output_bias else None

    def reset_parameters(self) -> None:
        """Its own parameter, beside those of its modules."""
        if self.output_bias is not None:
            nn.init.zeros_(self.output_bias)

    @property
    def output_weight(self) -> Float[Tensor, "V H"]:
        return self.embedding.weight if self.output is None else self.output.weight

    def start(self, z: Float[Tensor, "N Z"]) -> State:
        """The state before the first token: c0 = W z, h0 = tanh(c0); zeros where z does not set it."""
        shape = (len(z), self.config.layers, self.config.hidden)
        c = self.output_weight.new_zeros(shape) if self.state is None else self.state(z).view(shape)
        c = c.transpose(0, 1).contiguous()
        return State(torch.tanh(c), c)

    def forward(self, tokens: Int[Tensor, "N T"], z: Float[Tensor, "N Z"]) -> Float[Tensor, "N T H"]:
        """Teacher-forced outputs after each token, to be scored by ``cross_entropy.token_nll``."""
        outputs, _ = self._run(tokens, z, self.start(z))
        return self.dropout_out(outputs)

    def step(
        self, token: Int[Tensor, " N"], z: Float[Tensor, "N Z"], state: State
    ) -> tuple[Float[Tensor, "N V"], State]:
        """Logits of the next token (fp32) and the state after reading ``token``."""
        outputs, state = self._run(token[:, None], z, state)
        logits = self.dropout_out(outputs[:, 0]) @ self.output_weight.T
        return logits.float() if self.output_bias is None else logits.float() + self.output_bias, state

    def _run(
        self, tokens: Int[Tensor, "N T"], z: Float[Tensor, "N Z"], state: State
    ) -> tuple[Float[Tensor, "N T H"], State]:
        inputs = self.dropout_in(self.embedding(tokens))
        if self.input_z:
            inputs = torch.cat([inputs, z[:, None].expand(-1, inputs.shape[1], -1).to(inputs.dtype)], dim=-1)
        outputs, (h, c) = causal_lstm(self.lstm, inputs, (state.h, state.c))
        return outputs, State(h, c)
