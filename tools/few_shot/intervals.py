"""How far a share can be trusted."""

Z = 1.96
"""Of 95 %."""


def wilson(right: int, total: int) -> list[float]:
    """Ends of Wilson's 95 % interval of a share."""
    share = right / total
    scale = 1 + Z * Z / total
    centre = (share + Z * Z / (2 * total)) / scale
    reach = Z * (share * (1 - share) / total + Z * Z / (4 * total * total)) ** 0.5 / scale
    return [round(centre - reach, 4), round(centre + reach, 4)]
