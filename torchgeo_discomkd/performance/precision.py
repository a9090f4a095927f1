# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The precision in which a device is fast.

Measured: a training step in bfloat16 takes 0.5 to 0.6 of the time on processors that
have it (``python -m tests.speed.training_step``).
"""

from typing import Literal

import torch


def fast_precision(
    device: torch.device,
) -> tuple[Literal['bf16-mixed', '32-true'], str]:
    """Choose mixed bfloat16 precision where the device itself computes in it.

    Args:
        device: Where the network is trained.

    Returns:
        Its name in Lightning and the reason, worded to follow 'because'. PyTorch
        reports what the device can do.
    """
    match device.type:
        case 'cuda':
            name = torch.cuda.get_device_name(device)
            # by default PyTorch also counts devices that only emulate bfloat16
            with torch.cuda.device(device):
                native = torch.cuda.is_bf16_supported(including_emulation=False)
        case 'cpu':
            name = 'the processor'
            # public as torch.cpu.get_capabilities() in releases later than our oldest
            native = torch.cpu._is_avx512_bf16_supported()
        case _:
            name = f"'{device.type}'"
            native = False
    if native:
        return 'bf16-mixed', f'{name} has instructions for bfloat16'
    return '32-true', f'{name} is not known to be fast in bfloat16'
