# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from torchgeo_discomkd.datasets.plotting import plot_sample, render

MS_BANDS = [f'B{i:02}' for i in range(1, 13)] + ['B8A']


@pytest.mark.parametrize('unit', [1, 10_000])
def test_true_colour(unit: int) -> None:
    """Reflectance and the digital numbers that stand for it look the same."""
    image = torch.full((13, 1, 3), 0.03)
    # blue, green, red of a forest, of a field after harvest and of a cloud
    image[1:4, 0] = torch.tensor(
        [[0.081, 0.12, 0.9], [0.066, 0.13, 0.9], [0.04, 0.2, 0.9]]
    )
    forest, field, cloud = render(image * unit, MS_BANDS)[0]
    red, green, blue = forest
    assert red < blue < green < 0.2
    assert field.tolist() == pytest.approx([0.748, 0.424, 0.316])
    assert cloud.tolist() == [1, 1, 1]


def test_pictures_do_not_depend_on_other_pixels() -> None:
    forest = torch.tensor([0.081, 0.066, 0.04]).view(3, 1, 1)
    bands = ('B02', 'B03', 'B04')
    alone = render(forest.expand(3, 2, 2), bands)[0, 0]
    with_cloud = torch.cat([forest, torch.full((3, 1, 1), 0.9)], dim=2)
    assert np.array_equal(render(with_cloud, bands)[0, 0], alone)
    water = torch.tensor([-18.0, -25.0]).view(2, 1, 1)
    town = torch.tensor([-2.0, -9.0]).view(2, 1, 1)
    alone = render(water, ('VV', 'VH'))[0, 0]
    assert np.array_equal(
        render(torch.cat([water, town], 2), ('VV', 'VH'))[0, 0], alone
    )


def test_other_colours_share_one_stretch() -> None:
    image = torch.stack([torch.full((2, 2), v) for v in (0.5, 50.5, 100.5)])
    assert np.allclose(render(image, 'abc')[0, 0], [0, 0.5, 1])
    image = torch.stack([torch.full((2, 2), float(v)) for v in (0, 51, 204)])
    assert np.allclose(render(image, 'abc')[0, 0], [0, 0.2, 0.8])


def test_sar_composite() -> None:
    vv, vh = torch.tensor([[[-22.0, -11, 0]], [[-28.0, -17, -6]]])
    picture = render(torch.stack([vh, vv]), ['VH', 'VV'])
    assert np.allclose(picture[0, :, 0], [0, 0.5, 1])
    assert np.allclose(picture[0, :, 1], [0, 0.5, 1])
    assert np.allclose(picture[..., 2], 6 / 14)
    linear = render(10 ** (torch.stack([vv, vh]) / 10), ['VV', 'VH'])
    assert np.allclose(linear, picture, atol=1e-5)
    # one polarisation, where noise removal left no power
    image = torch.tensor([[[-1e-4, 0.05, 0.08]]])
    grey = render(image, ['VH'])
    assert grey.shape == (1, 3)
    assert grey[0, 0] == 0
    assert grey[0, 1] == pytest.approx((10 * np.log10(0.05) + 28) / 22)


def test_pictures_named_like_polarisations() -> None:
    """Whole numbers of a PNG are no backscatter."""
    image = torch.arange(32.0).reshape(2, 4, 4) * 8
    picture = render(image, ['VV', 'VH'])
    assert np.allclose(picture[..., :2], image.permute(1, 2, 0) / 255)


@pytest.mark.parametrize('bands', [1, 2, 4])
def test_first_band(bands: int) -> None:
    image = torch.rand(bands, 5, 5)
    picture = render(image, [f'B{i}' for i in range(bands)])
    assert picture.shape == (5, 5)
    assert picture.argmax() == image[0].argmax()


def test_missing_and_constant_pixels() -> None:
    image = torch.rand(1, 5, 5)
    image[0, 0, 0], image[0, 0, 1] = torch.nan, torch.inf
    assert (render(image, ['a'])[0, :2] == 0).all()
    for bands in (['a'], ['VH'], ['VV', 'VH'], MS_BANDS):
        missing = torch.full((len(bands), 2, 2), torch.nan)
        assert (render(missing, bands) == 0).all()
    assert (render(torch.full((1, 2, 2), 7.5), ['a']) == 0).all()


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
