# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import pytest

from torchgeo_discomkd.tables.colors import UNCERTAIN_COLOR, class_colors

from ..fakes import EUROSAT_CLASSES


def test_customary_colours() -> None:
    colors = dict(zip(EUROSAT_CLASSES, class_colors(EUROSAT_CLASSES), strict=True))
    for name in ('River', 'SeaLake'):
        red, _, blue = colors[name]
        assert blue > red + 80
    for name in ('Forest', 'HerbaceousVegetation', 'Pasture'):
        red, green, blue = colors[name]
        assert green > max(red, blue) + 40
    # the beginning of a word counts, not any part of it
    assert class_colors(['Rice']) != class_colors(['Ice'])
    assert class_colors(['open water']) == class_colors(['WATER'])


@pytest.mark.parametrize(
    'names',
    [
        EUROSAT_CLASSES,
        ('Water', 'Lake', 'Flooded', 'water 2'),
        tuple(str(i) for i in range(254)),
    ],
)
def test_colours_differ(names: tuple[str, ...]) -> None:
    colors = class_colors(names)
    assert len({*colors, UNCERTAIN_COLOR}) == len(names) + 1
    assert all(0 <= value <= 255 for color in colors for value in color)
