# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Check that SAR backscatter is in the unit it is said to be in."""

from ..errors import UnitError


def check_unit(minimum: float, maximum: float, unit: str, where: str) -> None:
    """Refuse values that clearly contradict their unit.

    Backscatter in dB of any landscape is mostly negative, linear power never is:

    * unit 'dB' and nothing negative: the values are linear power;
    * unit 'linear' and something negative: the values are in dB;
    * any other unit is not checked.

    Noise removal leaves a few negative values in linear power and a corner reflector
    exceeds 0 dB: give the 2nd and the 98th percentile rather than the extremes.

    Args:
        minimum: Lowest value, or a low percentile.
        maximum: Highest value, or a high percentile.
        unit: 'dB', 'linear' or any other text.
        where: What was measured, for the message: modality and band, or a file.

    Raises:
        UnitError: If the values contradict *unit*.
    """
    if unit == 'dB' and minimum >= 0:
        raise UnitError(
            f'{where} is said to be in dB, but ranges from {minimum:g} to {maximum:g}, '
            'nothing negative, as linear power does: convert it by 10 * log10(x), or '
            "state the unit 'linear'."
        )
    if unit == 'linear' and minimum < 0:
        raise UnitError(
            f'{where} is said to be linear power, but ranges from {minimum:g} to '
            f'{maximum:g}, as dB do: convert it by 10 ** (x / 10), or state the unit '
            "'dB'."
        )
