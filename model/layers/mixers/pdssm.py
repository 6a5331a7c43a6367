"""PD-SSM, a state space model with one-hot transitions (arXiv:2509.22284), in two passes.

    x_t = P_t D_t x_(t-1) + b_t;   y_t = Re(C x_t)

Each column of P_t is one-hot: component j of the state goes to the place that is largest in column
j of a mixture of ``DICTIONARY`` matrices, weighted by a softmax of the token. So permutations and
automata are transitions of one token, which diagonal models cannot have. D_t is complex and
diagonal, within the unit disc. Gradients pass the choice of P as if it were the softmax of its
columns (straight-through).

Inferred, as only these equations were at hand: |D| is a sigmoid and the angle of D linear in the
token; C is diagonal, since a projection of all heads follows, and of each pass its own; both passes
are added, and each head is RMS-normalised.

Shapes: S sequences, L width of a rectangle, H heads, d components of a head's state, K matrices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from osa.model.config import EncoderConfig
from osa.model.functional.alignment import take, zero_padding
from osa.model.functional.sparse_scan import States, Steps, scan_in_levels, scan_states
from osa.model.functional.tiling import TOKEN_TILE, head_by_head
from osa.model.layers.mixers.rectangle import RecurrentMixer, normalize_heads
from osa.model.layers.mixers.two_passes import both_ways, halves, turns_of

DICTIONARY = 4
"""Matrices that a token's transition is mixed from."""
TILE = 256
"""Tokens whose d x d matrices are there at once."""
ANGLE = 0.1
"""Factor of the angles at the start."""
SHORTEST, LONGEST = 0.5, 0.99
"""Moduli of D at the start, from component to component."""


class PdssmMixer(RecurrentMixer):
    """States Re b, Im b, modulus and angle of D; numbers of a head: weights of the dictionary."""

    native_kind = "pdssm"
    parts, turned = 4, 0
    scalars = DICTIONARY

    def __init__(self, config: EncoderConfig, layer: int = 0) -> None:
        """Create the projections; ``initialize_own`` draws the dictionary."""
        super().__init__(config, layer)
        heads, size = self.num_heads, self.head_dim
        self.dictionary = nn.Parameter(torch.zeros(heads, DICTIONARY, size, size))
        moduli = torch.linspace(SHORTEST, LONGEST, size).expand(heads, -1)
        self.moduli = nn.Parameter((moduli / (1 - moduli)).log())
        self.angles = nn.Parameter(torch.full((heads, size), ANGLE))
        reads = torch.tensor([1.0, 0.0])[:, None, None].expand(2, 2, heads, size)
        self.reads = nn.Parameter(reads.clone())  # by pass, real and imaginary
        self.longest = config.max_seq_len

    def initialize_own(self, generator: torch.Generator | None = None) -> None:
        """Draw the dictionary."""
        self.dictionary.data.normal_(0.0, 1.0, generator=generator)

    def native_weights(self) -> Float[Tensor, "H K"]:
        """The dictionary by rows, factors of modulus and angle, and what reads the states."""
        matrices = self.dictionary.transpose(-1, -2).flatten(1)
        reads = self.reads.movedim(2, 0).flatten(1)
        return torch.cat([matrices, self.moduli, self.angles, reads], 1)

    def mix_rectangle(
        self, states: tuple[Float[Tensor, "S H L _"], ...], mask: Bool[Tensor, "S L"] | None
    ) -> Float[Tensor, "S H L D"]:
        """Both passes, added."""
        turn, mask = turns_of(states[0], mask)
        *parts, weights = states
        index = choose_places(weights, self.dictionary)
        both = torch.cat([mask, mask])
        steps = self.steps([both_ways(part, turn) for part in parts], both_ways(index, turn), both)
        if torch.compiler.is_compiling():
            real, imaginary = scan_in_levels(steps, self.longest)
        else:
            if torch.is_grad_enabled():
                steps = self._with_gradient_of_choice(steps, both_ways(weights, turn))
            real, imaginary = head_by_head(
                lambda *heads: torch.stack(scan_states(Steps(*heads)), -1), *steps, least=TOKEN_TILE
            ).unbind(-1)
        reads = self.reads.to(real.dtype)[..., None, :]
        read = [
            own[0] * first - own[1] * second
            for own, first, second in zip(
                reads, halves(real, turn), halves(imaginary, turn), strict=True
            )
        ]
        return normalize_heads(read[0] + take(read[1], turn, 2))

    def steps(
        self,
        parts: list[Float[Tensor, "S H L D"]],
        index: Int[Tensor, "S H L D"],
        mask: Bool[Tensor, "S L"],
    ) -> Steps:
        """Steps of the recurrence; those of padding change nothing.

        Args:
            parts: The four states, in the order of one pass.
            index: Where each component goes.
            mask: True at real tokens.
        """
        real, imaginary, modulus, angle = parts
        padding = ~mask[:, None, :, None]
        size = (modulus + self.moduli.to(modulus.dtype)[:, None]).sigmoid()
        angle = angle * self.angles.to(angle.dtype)[:, None]
        places = torch.arange(index.shape[-1], device=index.device)
        return Steps(
            torch.where(padding, places, index),
            (size * angle.cos()).masked_fill(padding, 1.0),
            (size * angle.sin()).masked_fill(padding, 0.0),
            zero_padding(real, mask),
            zero_padding(imaginary, mask),
        )

    def _with_gradient_of_choice(self, steps: Steps, weights: Tensor) -> Steps:
        """Steps of the same values, whose gradient reaches the dictionary and its weights.

        P_t x with the states of a first pass is added as a difference that is zero: the gradient
        of a later loss by it is that of P_t itself.
        """
        with torch.no_grad():
            before = (F.pad(part, (0, 0, 1, 0))[:, :, :-1] for part in scan_states(steps))
            state_real, state_imaginary = before
            moved = (
                steps.real * state_real - steps.imaginary * state_imaginary,
                steps.real * state_imaginary + steps.imaginary * state_real,
            )
        none = choice_gradient(weights, self.dictionary, moved)
        return steps._replace(
            offset_real=steps.offset_real + none[0],
            offset_imaginary=steps.offset_imaginary + none[1],
        )


def mix_dictionary(
    weights: Float[Tensor, "S H L K"], dictionary: Float[Tensor, "H K D D"]
) -> Float[Tensor, "S H L D D"]:
    """The softmax mixture of each token [S, H, L, column, row]."""
    flat = weights.softmax(-1) @ dictionary.to(weights.dtype).flatten(-2)
    mixture: Tensor = flat.unflatten(-1, dictionary.shape[-2:])
    return mixture


def choose_places(
    weights: Float[Tensor, "S H L K"], dictionary: Float[Tensor, "H K D D"]
) -> Int[Tensor, "S H L D"]:
    """The largest row of each column."""
    with torch.no_grad():
        if torch.compiler.is_compiling():
            return mix_dictionary(weights, dictionary).argmax(-1)
        tiles = weights.split(TILE, dim=2)
        return torch.cat([mix_dictionary(tile, dictionary).argmax(-1) for tile in tiles], 2)


def choice_gradient(
    weights: Float[Tensor, "S H L K"], dictionary: Float[Tensor, "H K D D"], moved: States
) -> States:
    """Zeros, whose gradient is that of P applied to ``moved``, with P the softmax of columns.

    Args:
        weights: Logits of the dictionary's matrices.
        dictionary: The matrices [column, row].
        moved: D x, which P is applied to.
    """

    def one_tile(weights: Tensor, dictionary: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
        soft = mix_dictionary(weights, dictionary).softmax(-1)
        zero = (soft - soft.detach()).transpose(-1, -2)
        return zero @ torch.stack([real, imaginary], -1)

    tiles = zip(*(part.split(TILE, dim=2) for part in (weights, *moved)), strict=True)
    found = [
        checkpoint(one_tile, tile, dictionary, *parts, use_reentrant=False)
        for tile, *parts in tiles
    ]
    real, imaginary = torch.cat(found, 2).unbind(-1)
    return real, imaginary
