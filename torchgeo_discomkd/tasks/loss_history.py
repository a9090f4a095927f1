# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Say in words what the losses of a training show."""

import math
from collections.abc import Mapping

#: Epochs before anything is said: the first ones decide nothing.
FIRST_EPOCHS = 3

#: A loss has exploded if its mean is this many times that of guessing ...
WORSE = 10

#: ... or this many times the lowest mean of the training.
RISEN = 100

#: A term whose mean never fell this far below that of guessing is stuck there.
MARGIN = 0.02

#: What learns by a term.
LEARNERS = {
    'adversarial_loss': 'discriminator',
    'modality_loss': 'modality classifiers',
    'auxiliary_loss': 'auxiliary classifier',
    'classification_loss': 'classifiers',
    'loss': 'classifier',
}


class LossHistory:
    """Lowest and last mean of every term of the loss.

    Example:
        >>> history = LossHistory()
        >>> for epoch in range(3):
        ...     history.add({'modality_loss': 2.78, 'loss': 10.0 ** (2 * epoch)})
        >>> for line in history.in_words({'modality_loss': 2.77}):
        ...     print(line)  # doctest: +NORMALIZE_WHITESPACE
        Training diverges: train_loss is 1e+04 (its lowest mean was 1). Lower the
        learning rate (--model.lr), or clip gradients (--trainer.gradient_clip_val 1).
        No better than guessing in any of 3 epochs: modality classifiers
        (train_modality_loss at least 2.78, guessing 2.77). These terms had no effect.
    """

    def __init__(self) -> None:
        """Initialize a new LossHistory instance."""
        self._epochs = 0
        self._lowest: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def add(self, means: Mapping[str, float]) -> None:
        """Add an epoch.

        Args:
            means: Mean of each term over the epoch.
        """
        self._epochs += 1
        self._last = dict(means)
        for name, mean in means.items():
            self._lowest[name] = min(mean, self._lowest.get(name, math.inf))

    def in_words(self, chance: Mapping[str, float]) -> list[str]:
        """Say which terms stayed at the level of guessing, and which exploded.

        Args:
            chance: Terms that equal probabilities would give, by name.

        Returns:
            A line for each of both kinds; none after a few epochs only, or if all is
            well.
        """
        if self._epochs < FIRST_EPOCHS:
            return []
        lines = []
        if exploded := [t for n in self._last if (t := self._exploded(n, chance))]:
            lines.append(
                f'Training diverges: {", ".join(exploded)}. Lower the learning rate '
                '(--model.lr), or clip gradients (--trainer.gradient_clip_val 1).'
            )
        if stuck := [t for n, c in chance.items() if (t := self._stuck(n, c))]:
            lines.append(
                f'No better than guessing in any of {self._epochs} epochs: '
                f'{", ".join(stuck)}. These terms had no effect.'
            )
        return lines

    def _exploded(self, name: str, chance: Mapping[str, float]) -> str | None:
        last, lowest = self._last[name], self._lowest[name]
        if abs(last) > RISEN * max(1.0, abs(lowest)):
            return f'train_{name} is {last:.3g} (its lowest mean was {lowest:.3g})'
        if name in chance and last > WORSE * chance[name]:
            return f'train_{name} is {last:.3g} (guessing gives {chance[name]:.3g})'
        return None

    def _stuck(self, name: str, guess: float) -> str | None:
        lowest = self._lowest.get(name, 0.0)
        if lowest <= (1 - MARGIN) * guess:
            return None
        what = f'train_{name} at least {lowest:.3g}, guessing {guess:.3g}'
        return f'{LEARNERS.get(name, name)} ({what})'
