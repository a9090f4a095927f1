# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from torchgeo_discomkd.datasets.plotting import plot_sample, render

MS_BANDS = [f'B{i:02}' for i in range(1, 13)] + ['B8A']


def test_true_colour() -> None:
    image = torch.zeros(13, 4, 4)
    image[3, 0, 0] = image[2, 1, 1] = image[1, 2, 2] = 100
    picture = render(image, MS_BANDS)
    assert picture.shape == (4, 4, 3)
    assert picture[0, 0].tolist() == [1, 0, 0]
    assert picture[1, 1].tolist() == [0, 1, 0]
    assert picture[2, 2].tolist() == [0, 0, 1]


def test_colours_share_one_stretch() -> None:
    image = torch.stack([torch.full((2, 2), float(v)) for v in (0, 50, 100)])
    assert np.allclose(render(image, 'abc')[0, 0], [0, 0.5, 1])


def test_sar_composite() -> None:
    vv, vh = torch.rand(2, 5, 5)
    picture = render(torch.stack([vh, vv]), ['VH', 'VV'])
    for channel, values in enumerate([vv, vh, vv - vh]):
        order = values.flatten().argsort()
        assert (np.diff(picture[..., channel].ravel()[order]) >= 0).all()
        assert picture[..., channel].min() == 0
        assert picture[..., channel].max() == 1


@pytest.mark.parametrize('bands', [1, 2, 4])
def test_first_band(bands: int) -> None:
    image = torch.rand(bands, 5, 5)
    picture = render(image, [f'B{i}' for i in range(bands)])
    assert picture.shape == (5, 5)
    assert picture.argmax() == image[0].argmax()


def test_missing_and_constant_pixels() -> None:
    image = torch.rand(1, 5, 5)
    image[0, 0, 0] = torch.nan
    assert render(image, ['a'])[0, 0] == 0
    assert (render(torch.full((1, 2, 2), torch.nan), ['a']) == 0).all()
    assert (render(torch.full((1, 2, 2), 7.0), ['a']) == 0).all()


def test_panels_and_titles() -> None:
    bands = {m: ('B1',) for m in 'abc'}
    sample = {
        'image_a': torch.rand(1, 3, 3),
        'image_c': torch.rand(1, 5, 5),
        'label_a': torch.tensor(0),
        'label_c': torch.tensor(1),
        'prediction': {'c': torch.tensor(0)},
    }
    figure = plot_sample(sample, bands, ['Land', 'Water'], suptitle='Tile')
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ['a\nLabel: Land', 'c\nLabel: Water\nPrediction: Land']
    assert figure.get_suptitle() == 'Tile'
    plt.close(figure)
    bare = {'image_b': torch.rand(1, 3, 3)}
    figure = plot_sample(bare, bands, ['Land', 'Water'])
    assert [axis.get_title() for axis in figure.axes] == ['b']
    plt.close(figure)
    figure = plot_sample(bare, bands, ['Land', 'Water'], show_titles=False)
    assert [axis.get_title() for axis in figure.axes] == ['']
    plt.close(figure)
