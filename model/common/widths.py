"""Which numbers of leading dimensions a model's vectors may be cut to."""

from __future__ import annotations

from collections.abc import Sequence


def takes_any_width(trained: Sequence[int]) -> bool:
    """Whether any width is answered: the leading dimensions of a Matryoshka model carry most."""
    return len(trained) > 1


def width_problem(width: int, trained: Sequence[int]) -> str | None:
    """What is wrong with a width, to be read behind the name of a field; None if nothing is.

    Args:
        width: What is asked for [dimensions].
        trained: Widths that the model was trained for, full width first.
    """
    full = trained[0]
    if width == full or (takes_any_width(trained) and 1 <= width <= full):
        return None
    if takes_any_width(trained):
        return f"must be 1 to {full}, got {width}"
    return f"must be {full}, the only width that this model was trained for, got {width}"
