# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from torchgeo_discomkd.classify.scene.legend import make_legend


def test_legend_of_the_largest_map() -> None:
    legend = make_legend([str(i) for i in range(254)], uncertain=True)
    assert legend.names[-1] == 'uncertain'
    assert sorted(legend.colormap()) == list(range(256))
