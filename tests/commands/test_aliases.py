# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

from pathlib import Path

import pytest

from torchgeo_discomkd.commands import main
from torchgeo_discomkd.commands.aliases import refuse_expansion
from torchgeo_discomkd.errors import SettingError

#: Ten lines that stand for 10 billion values.
BOMB = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]\n' for i in range(1, 10)
)


@pytest.mark.parametrize('equals', [False, True])
@pytest.mark.parametrize(
    'args',
    [
        ['fit', '--config'],
        ['fit', '--trainer'],
        ['--config'],
        ['pack', '--output', 'a.safetensors', '--data'],
        ['benchmark', 'a.yaml', '--config'],
        ['pack', '--output', 'a.safetensors', '--config'],
    ],
    ids=' '.join,
)
def test_a_configuration_that_fills_the_memory(
    args: list[str], equals: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'a.yaml'
    path.write_text(f'{BOMB}data: *a9\n')
    given = [*args, str(path)]
    if equals:
        given = [*args[:-1], f'{args[-1]}={path}']
    with pytest.raises(SystemExit) as stop:
        main(given)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f'error: {path} names parts of itself by aliases (*)' in error
    assert 'Traceback' not in error


def test_a_benchmark_that_fills_the_memory(tmp_path: Path) -> None:
    (tmp_path / 'a.yaml').write_text(BOMB)
    with pytest.raises(SystemExit) as stop:
        main(['benchmark', str(tmp_path / 'a.yaml')])
    assert stop.value.code == 2


@pytest.mark.parametrize('text', ['a: &a [*a]', 'a: &a {b: *a}'])
def test_what_contains_itself_has_no_end(text: str) -> None:
    with pytest.raises(SettingError, match=r'x\.yaml names parts of itself'):
        refuse_expansion(text, Path('x.yaml'))


@pytest.mark.parametrize(
    'text',
    [
        'a: &a {lr: 0.1}\nb: {<<: *a, c: 1}\nd: [*a, *a]',
        'a: "&x *y"',
        'a: *unknown\nb: &c 1',
        '&',
    ],
)
def test_ordinary_aliases(text: str) -> None:
    refuse_expansion(text, Path('x.yaml'))
