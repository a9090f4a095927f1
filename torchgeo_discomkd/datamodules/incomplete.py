# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Whether paired training batches may hold samples that lack a modality."""

from ..datasets import MultiModalDataset
from ..errors import SettingError


def check_incomplete(
    dataset: MultiModalDataset,
    paired: bool,
    resident: bool,
    task: object | None,
    processes: int = 1,
) -> None:
    """Check that samples may lack modalities in paired batches.

    Args:
        dataset: The training split, with all modalities.
        paired: Whether batches are paired.
        resident: Whether images live on the device.
        task: The task that is trained, if it is known; with the attribute
            *uses_incomplete* set if it can leave images out.
        processes: Number of processes that train together.

    Raises:
        SettingError: If *allow_missing* has no effect, or data or task cannot do it.
    """
    name = type(dataset).__name__
    missing = getattr(dataset, 'missing', None)
    problem = None
    if not paired:
        problem = (
            'has no effect on unpaired batches, to which each modality brings its own '
            'samples. Leave it out (--data.missing keep keeps them), or set '
            '--data.paired true'
        )
    elif missing is None:
        problem = f'is not possible: all samples of {name} have all modalities'
    elif missing != 'keep':
        problem = f"needs incomplete samples, but missing='{missing}'. Set it to keep"
    elif resident:
        problem = 'is not possible with resident=True. Set --data.resident false'
    elif processes > 1:
        # one that sits a modality out would have other parameters and sums
        problem = (
            f'is for one process, not {processes}: set --trainer.devices 1 and '
            '--trainer.strategy auto'
        )
    elif dataset.unlabelled_samples:
        problem = (
            'is not possible together with samples without labels. Leave one of the '
            'two out'
        )
    elif task is not None and not getattr(task, 'uses_incomplete', False):
        problem = (
            f'is not possible: {type(task).__name__} needs every modality of a sample. '
            'Leave it out'
        )
    if problem:
        raise SettingError(f'allow_missing=True {problem}.')
