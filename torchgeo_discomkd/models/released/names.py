# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Names of the released code's tensors and ours."""

#: Children of a ResNet-18 with parameters, by their place in the released sequence.
CHILDREN = {
    '0': 'conv1',
    '1': 'bn1',
    '4': 'layer1',
    '5': 'layer2',
    '6': 'layer3',
    '7': 'layer4',
}

#: What the modalities share.
SHARED = {
    'task_cl3.block.0': 'auxiliary_classifier',
    'discr.block.0': 'discriminator',
    'task_dom.block.0': 'informative_modality_classifier',
    'task_dom2.block.0': 'irrelevant_modality_classifier',
}

#: What each modality has of its own: names of the first and of the second.
OWN = {
    ('first_enc_inv', 'second_enc_inv'): 'encoder.invariant_encoder',
    ('first_enc_spec', 'second_enc_spec'): 'encoder.specific_encoder',
    ('projF.l1', 'projS.l1'): 'encoder.projection.0',
    ('projF.bn1', 'projS.bn1'): 'encoder.projection.1',
    ('task_cl', 'task_cl2'): 'classifier',
}

#: A layer that the released code declares and never uses.
UNUSED = ('projF.l2', 'projS.l2')


def own_name(name: str, modalities: tuple[str, str]) -> str | None:
    """Translate the name of a tensor.

    Args:
        name: Its name in the released code, for example 'first_enc_inv.0.weight'.
        modalities: Names of the first and of the second modality.

    Returns:
        Its name in :class:`~torchgeo_discomkd.models.DisCoMKDNetwork`, for example
        'classifiers.ms.encoder.invariant_encoder.conv1.weight'; None if the released
        code has no such tensor.
    """
    for released, own in SHARED.items():
        if name.startswith(f'{released}.'):
            return own + name.removeprefix(released)
    for pair, own in OWN.items():
        for released, modality in zip(pair, modalities, strict=True):
            if not name.startswith(f'{released}.'):
                continue
            rest = name.removeprefix(f'{released}.')
            if own.endswith('_encoder'):
                place, _, inner = rest.partition('.')
                if place not in CHILDREN:
                    return None
                rest = f'{CHILDREN[place]}.{inner}'
            return f'classifiers.{modality}.{own}.{rest}'
    return None
