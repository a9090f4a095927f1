# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Wrong options of Lightning's commands in one message."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ..errors import SettingError

#: Options that name a class, whose settings are unknown before.
CLASSES = ('model', 'data', 'optimizer', 'lr_scheduler')

#: What jsonargparse says if a class is unknown.
UNKNOWN = 'Expected a dot import path string:'

#: Lines of jsonargparse that do not say what is wrong.
NOISE = re.compile(
    r'Does not validate|Subtypes:|Errors:|Given value|Problem with|Not a valid|'
    r"Subclass types|a class path|a dict|Expected a <class '(NoneType|collections)|"
    r'Expected a path|Parser key "[^"]+":$'
)


def check_order(args: list[str]) -> None:
    """Refuse options that have no effect where they stand.

    Args:
        args: Arguments of fit, validate, test or predict, the command first.

    Raises:
        SettingError: If a setting precedes the class that it belongs to, or a
            configuration that replaces it.
    """
    options = list(_options(args[1:]))
    for index, (name, value) in enumerate(options):
        before, after = options[:index], options[index + 1 :]
        group, _, setting = name.partition('.')
        named = {'config', group, f'{group}.class_path'}
        of_class = group in CLASSES and setting not in {'', 'class_path', 'help'}
        if of_class and not named.intersection(n for n, _ in before):
            raise SettingError(
                f'--{name} {value}: it is unknown yet what has this setting. Put '
                f'--config, or --{group} with a class, before it; --config '
                'configs/quickstart.yaml is what fit runs without options.'
            )
        for file in (v for n, v in after if n == 'config' and name != 'config'):
            keys = name.removesuffix('+').split('.')
            found = _setting_in(Path(file), args[0], keys)
            if found is not None and not _equal(found, value):
                raise SettingError(
                    f'--{name} {value} would have no effect: {file}, which comes after '
                    f'it, sets {found}. Put --config first.'
                )


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each option with a value."""
    for index, word in enumerate(words):
        if not word.startswith('-'):
            continue
        name, equals, value = word.partition('=')
        following = words[index + 1 : index + 2]
        name = {'-c': 'config'}.get(name, name.removeprefix('--'))
        yield name, value if equals else ''.join(following)


def _setting_in(path: Path, command: str, keys: list[str]) -> Any:
    """Return a setting in a configuration; None if it is not there."""
    try:
        found = yaml.safe_load(path.read_text(errors='replace'))
    except (OSError, yaml.YAMLError):
        # the parser reports what is wrong with it
        return None
    if isinstance(found, dict):
        found = found.get(command, found)
    for key in keys:
        if isinstance(found, dict) and isinstance(found.get('init_args'), dict):
            found = found | found['init_args']
        found = found.get(key) if isinstance(found, dict) else None
    return found.get('class_path', found) if isinstance(found, dict) else found


def _equal(found: Any, value: str) -> bool:
    """Return whether a word of the command line says what a configuration says."""
    try:
        # YAML takes 1e-3 for a text
        return float(found) == float(value)
    except (TypeError, ValueError):
        pass
    try:
        return yaml.safe_load(value) == found
    except yaml.YAMLError:
        return False


def option_error(error: Exception, command: str) -> SettingError:
    """Return an error about an option in a few words.

    Args:
        error: An error of jsonargparse, which lists all types that an option may have.
        command: The command.
    """
    text = str(error)
    lines = [line.strip().removeprefix('- ') for line in text.splitlines()]
    # a class or a choice in plain words
    reasons = [
        re.sub(r"Parser key \"\w+\": |<class '|'>|a typing\.Literal", '', line)
        for line in lines
        if line and not NOISE.match(line)
    ]
    unknown = [line for line in reasons if line.startswith(UNKNOWN)]
    if unknown:
        name = unknown[0].removeprefix(UNKNOWN).strip()
        reasons = [f'no class {name} is known: give its import path']
    # what types are expected says nothing if there is another reason
    reasons = [r for r in reasons if not r.startswith('Expected ')] or reasons
    keys = re.findall(r'Parser key "([^"]+)"', text)
    given = re.search(r'Given value: ([^(\n]+)$', text, re.MULTILINE)
    parts = [f'--{".".join(keys)}'] if keys else []
    parts += [given[1]] if given else []
    start = f'{" ".join(parts)}: ' if parts else ''
    reason = '; '.join(dict.fromkeys(reasons)).rstrip('.')
    return SettingError(f'{start}{reason}. See {command} --help.')
