# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""The precision in which a device is fast.

Measured: a training step in bfloat16 takes 0.5 to 0.6 of the time on processors that
have it (``python -m tests.speed.training_step``). On a GPU it takes 1.3 times as long
as in float32 where Python launches each kernel, since it has more of them, and 0.83 of
the time as a CUDA graph.
"""

from typing import Literal

import torch


def fast_precision(
    device: torch.device, no_graphs: str | None = None
) -> tuple[Literal['bf16-mixed', '32-true'], str]:
    """Choose mixed bfloat16 precision where the device itself computes in it.

    Args:
        device: Where the network is trained.
        no_graphs: On a GPU, why its steps are not replayed as CUDA graphs; None if
            they are.

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
            if native and no_graphs is not None:
                return '32-true', (
                    f'{name} is faster in bfloat16 only with CUDA graphs, and '
                    f'{no_graphs}'
                )
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
