# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""A map is replaced with all its files or not at all, whenever the process dies."""

from pathlib import Path

import pytest

from torchgeo_discomkd.classify.scene.outputs import (
    SceneOutputs,
    clear_folder,
    clear_outputs,
)
from torchgeo_discomkd.classify.scene.replacing import list_path, replace_together
from torchgeo_discomkd.errors import OutputError, OutputInUseError
from torchgeo_discomkd.files import only_writer, partial_folder

#: Two for the list, two removals, the moves of four files, and the end of the list.
STEPS = 9


class Killed(BaseException):
    """A kill: nothing of this program may react to it."""


class Killer:
    """Let the process die before one of its moves and removals."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        self.left = step
        for name in ('replace', 'unlink'):
            original = getattr(Path, name)

            def patched(
                path: Path, *args: object, original: object = original, **kwargs: object
            ) -> object:
                if self.left == 0:
                    raise Killed
                self.left -= 1
                return original(path, *args, **kwargs)  # ty: ignore[call-non-callable]

            monkeypatch.setattr(Path, name, patched)


def content(outputs: SceneOutputs) -> dict[str, str]:
    files = [outputs.classes, outputs.confidence, outputs.aux_xml, outputs.preview]
    return {p.name: p.read_text() for p in files if p is not None and p.exists()}


@pytest.mark.parametrize('step', range(STEPS + 1))
def test_a_kill_leaves_all_or_nothing(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'maps'
    (tmp_path / 'previews').mkdir()
    folder.mkdir()
    preview = tmp_path / 'previews' / 'map.png'
    outputs = SceneOutputs(folder / 'map.tif', None, preview)
    files = [outputs.confidence, outputs.aux_xml, preview, outputs.classes]
    sidecar = folder / 'map.tif.ovr'
    for path in (*files, sidecar):
        path.write_text('old')
    old = content(outputs)
    parts = {}
    for path in files:
        # kept by a kill, which ends no context
        owner = preview if path == preview else outputs.classes
        part = owner.with_name(f'{owner.name}.abcdefgh.partial') / path.name
        part.parent.mkdir(exist_ok=True)
        part.write_text('new')
        parts[path] = part
    new = dict.fromkeys(old, 'new')
    with monkeypatch.context() as patch:
        Killer(patch, step)
        try:
            replace_together(outputs.classes, parts, [sidecar, outputs.aux_xml])
        except Killed:
            assert step < STEPS
        else:
            assert step == STEPS
            assert content(outputs) == new
    # never a map next to files of another one
    found = content(outputs)
    assert found in (old, new) or 'map.tif' not in found
    begun = list_path(outputs.classes).exists()
    assert begun == (0 < step < STEPS)
    clear_folder([outputs])
    assert content(outputs) == (old if step == 0 else new)
    assert sidecar.exists() == (step == 0)
    names = {path.name for path in tmp_path.rglob('*')} - {sidecar.name}
    assert names == {'maps', 'previews', *old}


def test_an_interrupt_does_not_leave_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = SceneOutputs(tmp_path / 'map.tif', None, None)
    files = [outputs.confidence, outputs.classes]
    folder = tmp_path / 'map.tif.abcdefgh.partial'
    folder.mkdir()
    parts = {path: folder / f'{path.stem}.part' for path in files}
    for path in (*files, *parts.values()):
        path.write_text(path.suffix)
    with monkeypatch.context() as patch:
        original, interrupts = Path.replace, [KeyboardInterrupt()]

        def replace(path: Path, target: Path) -> Path:
            if path.suffix == '.part' and interrupts:
                raise interrupts.pop()
            return original(path, target)

        patch.setattr(Path, 'replace', replace)
        with pytest.raises(KeyboardInterrupt):
            replace_together(outputs.classes, parts, [])
    assert {path.read_text() for path in files} == {'.part'}
    assert sorted(tmp_path.iterdir()) == sorted([*files, folder])


@pytest.mark.parametrize(
    'text',
    [
        '',
        (
            '{"remove": ["../mine.txt"], '
            '"move": [["map.tif.abcdefgh.partial/a", "map.tif"]]}'
        ),
        '{"remove": [], "move": [["../mine.txt", "map.tif"]]}',
        '{"remove": [], "move": [["map.tif.abcdefgh.partial/a", "../mine.txt"]]}',
        '{"remove": 3, "move": []}',
    ],
)
def test_a_list_that_is_damaged_or_of_a_stranger(tmp_path: Path, text: str) -> None:
    mine = tmp_path / 'mine.txt'
    mine.write_text('mine')
    outputs = SceneOutputs(tmp_path / 'maps' / 'map.tif', None, None)
    part = outputs.classes.with_name('map.tif.abcdefgh.partial') / 'a'
    part.parent.mkdir(parents=True)
    part.write_text('new')
    outputs.classes.write_text('old')
    list_path(outputs.classes).write_text(text)
    with pytest.warns(UserWarning, match='damaged or names files that do not belong'):
        clear_outputs(outputs)
    assert mine.read_text() == 'mine'
    assert outputs.classes.read_text() == 'old'
    assert list(outputs.classes.parent.iterdir()) == [outputs.classes]


def test_an_error_between_the_moves_keeps_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = SceneOutputs(tmp_path / 'map.tif', None, None)
    files = [outputs.confidence, outputs.classes]
    for path in files:
        path.write_text('old')
    begun = list_path(outputs.classes)
    with monkeypatch.context() as patch:
        original = Path.replace

        def replace(path: Path, target: Path) -> Path:
            if target == outputs.confidence:
                raise PermissionError(13, 'somebody else holds it')
            return original(path, target)

        patch.setattr(Path, 'replace', replace)
        with (
            pytest.raises(OutputError, match='somebody else'),
            partial_folder(outputs.classes, begun.exists) as folder,
        ):
            parts = {path: folder / path.name for path in files}
            for part in parts.values():
                part.write_text('new')
            replace_together(outputs.classes, parts, [])
    # also if the folder is somewhere else by then
    moved = tmp_path.with_name(f'{tmp_path.name}_moved')
    tmp_path.rename(moved)
    clear_outputs(SceneOutputs(moved / 'map.tif', None, None))
    assert {p.name: p.read_text() for p in moved.iterdir()} == dict.fromkeys(
        ('map.tif', 'map_confidence.tif'), 'new'
    )


def test_parts_of_a_map_that_is_being_written_are_kept(tmp_path: Path) -> None:
    outputs = SceneOutputs(tmp_path / 'map.tif', None, None)
    other = tmp_path / 'other.tif.abcdefgh.partial'
    other.mkdir()
    with partial_folder(outputs.classes) as part, only_writer(*outputs.asked):
        with pytest.raises(OutputInUseError):
            clear_folder([outputs])
        assert part.exists()
        clear_outputs(outputs)
        assert not part.exists()
    assert other.exists()
