# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

import subprocess
import sys
from dataclasses import fields
from importlib.metadata import entry_points

import pytest

from torchgeo_discomkd import __version__
from torchgeo_discomkd.__main__ import main as guarded_main
from torchgeo_discomkd.benchmark import BenchmarkConfig
from torchgeo_discomkd.commands import COMMANDS, main
from torchgeo_discomkd.commands.benchmark import EPILOG

LIGHTNINGS = ('fit', 'validate', 'test', 'predict')

HELP = """
import sys
from torchgeo_discomkd.commands import main
try:
    main(sys.argv[1:])
except SystemExit as error:
    assert error.code == 0, error.code
heavy = {'jsonargparse', 'lightning', 'numpy', 'rasterio', 'torch', 'torchgeo'}
sys.stderr.write(','.join(sorted(heavy & set(sys.modules))))
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False
    )


def test_python_m() -> None:
    assert run('-m', 'torchgeo_discomkd', '--version').stdout.split() == [
        'discomkd',
        __version__,
    ]


def test_console_script() -> None:
    [script] = entry_points(group='console_scripts', name='discomkd')
    assert script.load() is guarded_main


@pytest.mark.parametrize('command', ['', *(c for c in COMMANDS if c not in LIGHTNINGS)])
def test_help_at_once(command: str) -> None:
    result = run('-c', HELP, *([command] if command else []), '--help')
    assert result.returncode == 0
    assert result.stderr == ''
    assert result.stdout.startswith(f'usage: discomkd {command}'.strip())


def test_help_of_fit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main(['fit', '--help'])
    assert info.value.code == 0
    assert capsys.readouterr().out.startswith('usage: discomkd ')


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main(['--help'])
    assert info.value.code == 0
    output = capsys.readouterr().out
    usage, sentence, *_ = output.split('\n\n')
    assert usage == 'usage: discomkd [-h] [--version] COMMAND ...'
    assert sentence.startswith('Train with several sensors, classify with one')
    listed = output.partition('commands:\n')[2].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(len(line) <= 80 for line in listed)


@pytest.mark.parametrize('args', [[], ['fti'], ['Fit', '--help']])
def test_no_such_command(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main(args)
    assert info.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('usage: discomkd')
    assert not args or args[0] in error


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('--units', '{sar: null}', 'give a name for each modality'),
        ('--tile-size', '{sar: true}', 'give a whole number'),
        ('--bands', '{sar: VV}', 'give a list of names'),
    ],
)
def test_values_of_another_type(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = ['import', 'W.pth', '--output', 'x', '--modalities', 'a', 'b']
    with pytest.raises(SystemExit):
        main([*fixed, option, value])
    assert message in capsys.readouterr().err


def test_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ('--bands', '--units', '--tile-size'):
        with pytest.raises(SystemExit) as info:
            main(
                [
                    *('import', 'W.pth', '--output', 'x', '--modalities', 'a', 'b'),
                    *(option, '{sar: [[}'),
                ]
            )
        assert info.value.code == 2
        assert f'argument {option}: {{sar: [[}}: give a mapping' in (
            capsys.readouterr().err
        )


def test_help_of_benchmark_names_every_field() -> None:
    listed = EPILOG.partition('--runs 1:')[2].strip(' .\n').replace(',', '').split()
    assert listed == [field.name for field in fields(BenchmarkConfig)]
