# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import torch

from torchgeo_discomkd.datasets import MultiModalDataset


def assert_same_samples(packed: MultiModalDataset, source: MultiModalDataset) -> None:
    """Check that two data sets deliver the same samples, one by one and together."""
    together = packed.__getitems__(range(len(source)))
    assert len(packed) == len(source) == len(together)
    for index in range(len(source)):
        expected = source[index]
        assert packed.identifier(index) == source.identifier(index)
        assert packed.georeference(index) == source.georeference(index)
        for sample in (packed[index], together[index]):
            assert sample.keys() == expected.keys()
            for key, values in expected.items():
                assert sample[key].dtype == values.dtype
                torch.testing.assert_close(
                    sample[key], values, rtol=0, atol=0, equal_nan=True
                )


def assert_same(packed: MultiModalDataset, source: MultiModalDataset) -> None:
    """Check that two data sets deliver the same samples and say the same of them."""
    assert packed.classes == source.classes
    assert packed.modalities == source.modalities
    assert packed.bands == source.bands
    assert packed.units == source.units
    assert packed.fingerprint() == source.fingerprint()
    assert packed.split_hash() == source.split_hash()
    assert_same_samples(packed, source)
