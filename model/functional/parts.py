"""Orthogonal Self-Attention of a sequence whose tokens lie on several processes, with gradients.

Every process has some of the tokens. G = M^T M and T = M^T V are added up over the processes, the
small matrix function is computed by each, and each applies the weights to its own tokens: one sum
of 2d x 3d numbers a head, whatever the length. Of what completes it a pooled value is one more sum,
and neighbours are the values of a few tokens at the ends of each process's part.

Shapes: B batch, H heads, n tokens of this process, d head width, P processes, R reach, K numbers of
a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from osa.model.functional.attention import gram_matrix, j_times, times_j
from osa.model.functional.completion import add_neighbours
from osa.model.functional.phi1 import choose_plan, operator_norm_bound, phi1_action


class SequencePart(NamedTuple):
    """This process's share of a sequence.

    Attributes:
        length: Tokens of the whole sequence.
        total: A tensor's sum over the processes; its gradient is summed over them as well.
        largest: Its largest values over them, without a gradient.
        place: Number of this process among them; tokens are in their order.
        parts: How many they are, P.
    """

    length: int
    total: Callable[[Tensor], Tensor]
    largest: Callable[[Tensor], Tensor] = lambda tensor: tensor
    place: int = 0
    parts: int = 1

    def beside(
        self, rows: Float[Tensor, "n K"], reach: int
    ) -> tuple[Float[Tensor, "before K"], Float[Tensor, "after K"]]:
        """The rows of up to ``reach`` tokens before this process's, and of as many after them."""
        edges = self.total(edges_of(rows, reach, self.place, self.parts))
        return rows_beside(edges, self.place)


def edges_of(
    rows: Float[Tensor, "n K"], reach: int, place: int, count: int
) -> Float[Tensor, "P 2 R K1"]:
    """The first and last rows of a process in its place, zeros elsewhere: to be summed.

    The last number of a row is 1 where there is one.

    Args:
        rows: Of all its tokens, or of the first and the last ``reach`` alone.
        reach: R.
        place: Number of the process.
        count: P.
    """
    kept = min(reach, len(rows))
    marked = F.pad(rows, (0, 1), value=1.0)
    ends = (marked[:kept], marked[len(rows) - kept :])
    own = torch.stack([F.pad(end, (0, 0, 0, reach - kept)) for end in ends])
    return F.pad(own[None], (0, 0, 0, 0, 0, 0, place, count - 1 - place))


def rows_beside(
    edges: Float[Tensor, "P 2 R K1"], place: int
) -> tuple[Float[Tensor, "before K"], Float[Tensor, "after K"]]:
    """Of the summed ``edges_of``, up to R rows before those of a process, and after them.

    A process may have fewer than R tokens: then they are those of several.
    """
    reach = edges.shape[2]

    def there(found: Float[Tensor, "p R K1"]) -> Tensor:
        flat = found.flatten(0, 1)
        return flat[flat[:, -1].detach() > 0.5, :-1]

    return there(edges[:place, 1])[-reach:], there(edges[place + 1 :, 0])[:reach]


def pool_part(
    value: Float[Tensor, "B H n D"], logits: Float[Tensor, "B n H"], part: SequencePart
) -> Float[Tensor, "B H 1 D"]:
    """``pool_values`` of a sequence of which this process has a part.

    Args:
        value: Values.
        logits: Of every token.
        part: Of the sequence.
    """
    logits = logits.transpose(1, 2)
    least = logits.new_full((*logits.shape[:2], 1), torch.finfo(logits.dtype).min)
    largest = part.largest(torch.cat([logits.detach(), least], -1).amax(-1, keepdim=True))
    weights = (logits - largest).exp()
    pooled = (weights[:, :, None] @ value)[:, :, 0]
    sums = part.total(torch.cat([weights.sum(-1, keepdim=True), pooled], -1))
    return (sums[..., 1:] / sums[..., :1])[:, :, None]


def neighbours_part(
    value: Float[Tensor, "B H n D"], taps: Float[Tensor, "H R2"], part: SequencePart
) -> Float[Tensor, "B H n D"]:
    """``add_neighbours`` of a sequence of which this process has a part.

    Args:
        value: Values.
        taps: As for ``add_neighbours``.
        part: Of the sequence.
    """
    rows = value.permute(2, 0, 1, 3)
    before, after = part.beside(rows.flatten(1), taps.shape[1] // 2)
    around = torch.cat([before, rows.flatten(1), after]).unflatten(1, rows.shape[1:])
    mixed = add_neighbours(around.permute(1, 2, 0, 3), taps, None, None)
    return mixed[:, :, len(before) : len(before) + len(rows)]


def osa_part(
    query: Float[Tensor, "B H n D"],
    key: Float[Tensor, "B H n D"],
    value: Float[Tensor, "B H n D"],
    alpha: Float[Tensor, " H"],
    part: SequencePart,
    scale: str = "paper",
    center: bool = False,
) -> Float[Tensor, "B H n D"]:
    """``osa_gram`` of this process's tokens; the small matrix function is in double.

    Under autocast products are float32, as those of ``osa::attention``.

    Args:
        query: Q.
        key: K.
        value: V.
        alpha: Angle of each head.
        part: Of the sequence.
        scale: As in ``osa_gram``.
        center: As in ``osa_gram``.
    """
    with torch.autocast(query.device.type, enabled=False):
        return _osa_part(query, key, value, alpha, part, scale, center)


def _osa_part(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    part: SequencePart,
    scale: str,
    center: bool,
) -> Tensor:
    if center:
        sums = torch.stack([query.sum(-2, keepdim=True), key.sum(-2, keepdim=True)])
        query_mean, key_mean = part.total(sums) / part.length
        query, key = query - query_mean, key - key_mean
    width = query.shape[-1]
    moment = torch.cat([query.mT @ value, key.mT @ value], dim=-2)
    sums = part.total(torch.cat([gram_matrix(query, key), moment], dim=-1)).double()
    gram, moment = sums.split([2 * width, width], dim=-1)
    factor = alpha.double() / math.sqrt(width)
    if scale == "length":
        factor = factor / part.length
    angle = factor[:, None, None]
    matrix = angle * times_j(gram)
    bound = operator_norm_bound(matrix.detach())
    plan = choose_plan(bound, matrix.dtype)
    weight = angle * j_times(phi1_action(matrix, moment, bound, plan))
    query_weight, key_weight = weight.to(query.dtype).chunk(2, dim=-2)
    return value + query @ query_weight + key @ key_weight
