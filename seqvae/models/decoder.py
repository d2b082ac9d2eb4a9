"""The decoder: a recurrent language model that a latent code z conditions at its start and at every step."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from seqvae import gaussian
from seqvae.models.dropout import OVER, DropoutOver, make_dropout
from seqvae.models.recurrent import NETWORKS, Cell, run_causal


class DecoderConfig(BaseModel):
    """Settings of the decoder (``model.decoder``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: Cell = Field("lstm", description="kind of recurrent cell")
    embedding: int = Field(256, ge=1, description="size of a token's embedding")
    hidden: int = Field(256, ge=1, description="units of each layer")
    layers: int = Field(1, ge=1, le=64, description="recurrent layers")
    dropout_in: float = Field(0.5, ge=0, lt=1, description="dropout rate on the token embeddings")
    dropout_out: float = Field(0.5, ge=0, lt=1, description="dropout rate on the outputs of the recurrent layers")
    dropout_over: DropoutOver = Field("tokens", description=OVER)
    weight_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout rate on the weights from state to state, with one mask for a batch"
    )
    embedding_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the words that a batch reads as zeros wherever they stand"
    )
    z_to_state: bool = Field(True, description="z sets the initial state: h0 = tanh(W z), and c0 = W z of an LSTM")
    z_to_input: bool = Field(True, description="z is concatenated to the embedding at every step")
    z_to_output: bool = Field(False, description="W z is added to what the output layer reads at every step")
    tie_weights: bool = Field(False, description="the output layer uses the embedding's weights (sizes must be equal)")
    output_bias: bool = Field(False, description="the output layer has a bias")

    @model_validator(mode="after")
    def _check(self) -> "DecoderConfig":
        if self.tie_weights and self.embedding != self.hidden:
            raise ValueError(f"tie_weights needs embedding = hidden, not {self.embedding} and {self.hidden}")
        if not (self.z_to_state or self.z_to_input or self.z_to_output):
            raise ValueError(
                "with z_to_state, z_to_input and z_to_output all false the decoder never sees z; set one of them true"
            )
        return self


@dataclass(frozen=True)
class State:
    """Recurrent state of N hypotheses, ``[layers N H]``; a GRU has no ``c``."""

    h: Float[Tensor, "L N H"]
    c: Float[Tensor, "L N H"] | None = None

    def select(self, index: Int[Tensor, " M"]) -> "State":
        """The states of some hypotheses, in the order given (rows may repeat)."""
        return State(*(part.index_select(1, index) for part in self.parts()))

    def parts(self) -> tuple[Float[Tensor, "L N H"], ...]:
        """(h, c), or (h,) of a GRU."""
        return (self.h,) if self.c is None else (self.h, self.c)


class Decoder(nn.Module):
    """z-conditioned LSTM: h0, c0 and every input see z (Bowman et al. 2016; wiring of He et al. 2019).

    As a GRU it starts from h0 = tanh(W z) (Cho et al. 2014, appendix A). With ``z_to_output`` the output layer reads
    h_t + W z: the skip connection of Dieng et al. (2019, "Avoiding latent variable collapse with generative skip
    models"), who give z to each hidden layer inside its nonlinearity; here it is linear, at the top alone and past the
    dropout, so that the cross-entropy stays one product of a vector of size H with the (perhaps tied) output weights.
    """

    def __init__(self, config: DecoderConfig, vocab_size: int, latent_dim: int):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(vocab_size, config.embedding)
        self.input_z = config.z_to_input and latent_dim > 0
        inputs = config.embedding + (latent_dim if self.input_z else 0)
        between = config.dropout_out if config.layers > 1 else 0.0
        network = NETWORKS[config.cell](inputs, config.hidden, config.layers, batch_first=True, dropout=between)
        setattr(self, config.cell, network)  # its saved weights bear the name of the cell
        size = config.hidden * config.layers
        self.state = nn.Linear(latent_dim, size, bias=False) if config.z_to_state and latent_dim > 0 else None
        self.skip = nn.Linear(latent_dim, config.hidden, bias=False) if config.z_to_output and latent_dim > 0 else None
        self.dropout_in = make_dropout(config.dropout_in, config.dropout_over)
        self.dropout_out = make_dropout(config.dropout_out, config.dropout_over)
        self.output = None if config.tie_weights else nn.Linear(config.hidden, vocab_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocab_size)) if config.output_bias else None

    def reset_parameters(self) -> None:
        """Its own parameter, beside those of its modules."""
        if self.output_bias is not None:
            nn.init.zeros_(self.output_bias)

    @property
    def network(self) -> nn.LSTM | nn.GRU:
        """The recurrent layers."""
        return getattr(self, self.config.cell)

    @property
    def output_weight(self) -> Float[Tensor, "V H"]:
        return self.embedding.weight if self.output is None else self.output.weight

    def start(self, z: Float[Tensor, "N Z"]) -> State:
        """The state before the first token: h0 = tanh(W z), and c0 = W z of an LSTM; zeros where z does not set it."""
        shape = (z.shape[0], self.config.layers, self.config.hidden)
        c = self.output_weight.new_zeros(shape) if self.state is None else self.state(z).view(shape)
        c = c.transpose(0, 1).contiguous()
        return State(torch.tanh(c), c if self.config.cell == "lstm" else None)

    def forward(self, tokens: Int[Tensor, "N T"], z: Float[Tensor, "N Z"]) -> Float[Tensor, "N T H"]:
        """What the output layer reads after each token when teacher-forced, for ``cross_entropy.token_nll``."""
        return self._run(tokens, z, self.start(z))[0]

    def step(
        self, token: Int[Tensor, " N"], z: Float[Tensor, "N Z"], state: State
    ) -> tuple[Float[Tensor, "N V"], State]:
        """Logits of the next token (fp32) and the state after reading ``token``."""
        outputs, state = self.advance(token, z, state)
        return self.logits(outputs), state

    def advance(
        self, token: Int[Tensor, " N"], z: Float[Tensor, "N Z"], state: State
    ) -> tuple[Float[Tensor, "N H"], State]:
        """What the output layer reads after ``token``, and the state."""
        outputs, state = self._run(token[:, None], z, state)
        return outputs[:, 0], state

    def logits(self, outputs: Float[Tensor, "*B H"]) -> Float[Tensor, "*B V"]:
        """Scores (fp32) of every next token, from what the output layer reads."""
        logits = gaussian.wide(torch.matmul(outputs, self.output_weight.T))
        return logits if self.output_bias is None else logits + self.output_bias

    def _run(
        self, tokens: Int[Tensor, "N T"], z: Float[Tensor, "N Z"], state: State
    ) -> tuple[Float[Tensor, "N T H"], State]:
        inputs = self.dropout_in(self._embedded(tokens))
        if self.input_z:
            inputs = torch.cat([inputs, z[:, None].expand(-1, inputs.shape[1], -1).to(inputs.dtype)], dim=-1)
        weight_dropout = self.config.weight_dropout if self.training else 0.0
        outputs, parts = run_causal(self.network, inputs, state.parts(), weight_dropout)
        outputs = self.dropout_out(outputs)
        if self.skip is not None:
            outputs = outputs + self.skip(z)[:, None].to(outputs.dtype)
        return outputs, State(*parts)

    def _embedded(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N T E"]:
        """In training under dropout of whole words, with a mask for a batch (Gal and Ghahramani 2016, section 4.2)."""
        embedded, rate = self.embedding(tokens), self.config.embedding_dropout
        if not self.training or rate == 0:
            return embedded
        kept = embedded.new_empty(self.embedding.num_embeddings).bernoulli_(1 - rate)
        return embedded * kept.div_(1 - rate)[tokens, None]
