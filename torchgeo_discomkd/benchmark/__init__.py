# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Fill the paper's tables with any data."""

from .config import BenchmarkConfig
from .config_file import read_config
from .plan import Training, plan
from .report import write_report
from .results import Results
from .runner import estimate_seconds, run_benchmark

__all__ = (
    'BenchmarkConfig',
    'Results',
    'Training',
    'estimate_seconds',
    'plan',
    'read_config',
    'run_benchmark',
    'write_report',
)
