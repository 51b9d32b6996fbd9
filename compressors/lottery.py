"""The lottery ticket's rounds: how much of a layer is gone after each (Frankle & Carbin 2019)."""

from compressors.ratios import num_removed


def sparsity_after_round(sparsity: float, round: int, rounds: int) -> float:
    """`1 - (1 - P)**(r / n)` after round r of n: each round removes `1 - (1 - P)**(1 / n)` of the survivors.

    Args:
        sparsity: P, the share removed after the last round, in [0, 1).
        round: r, from 0, where nothing is removed.
        rounds: n, at least 1.
    """
    return 1.0 - (1.0 - sparsity) ** (round / rounds)


def removed_after_round(size: int, sparsity: float, round: int, rounds: int) -> int:
    """`floor((1 - (1 - P)**(r / n)) * size)` weights of a layer; after the last round exactly `floor(P * size)`.

    The floor is taken of the total, not of each round's share, so that roundings do not add up.
    """
    if round == rounds:  # the power is 1 - P but for a last bit
        return num_removed(sparsity, size)
    return num_removed(sparsity_after_round(sparsity, round, rounds), size)
