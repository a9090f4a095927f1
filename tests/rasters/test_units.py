# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest

from torchgeo_discomkd.errors import UnitError
from torchgeo_discomkd.rasters.units import check_unit


@pytest.mark.parametrize(
    ('minimum', 'maximum', 'unit'),
    [(-25, 3, 'dB'), (-1e-9, 3, 'dB'), (0, 4, 'linear'), (-5, 9, 'unknown')],
)
def test_plausible(minimum: float, maximum: float, unit: str) -> None:
    check_unit(minimum, maximum, unit, 'x')


def test_linear_power_where_db_is_expected() -> None:
    with pytest.raises(UnitError, match=r'Band VV is said to be in dB, but .* 0\.01'):
        check_unit(0.01, 0.4, 'dB', 'Band VV')
    with pytest.raises(UnitError, match='10 \\* log10'):
        check_unit(0, 0.4, 'dB', 'Band VV')


def test_db_where_linear_power_is_expected() -> None:
    with pytest.raises(UnitError, match=r'Band VV is said to be linear .* -20 to 1'):
        check_unit(-20, 1, 'linear', 'Band VV')
