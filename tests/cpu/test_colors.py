"""Operations are told apart by their looks, whoever sees them; words upon them can be read."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from fairseq_dartsformer.operations import DECODER_OPERATIONS
from fairseq_dartsformer.plots.style import LOOKS, text_color

# How dichromats see, upon linear RGB (Machado et al. 2009), and everyone else.
VISION = {
    "all": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(color: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]] @ rgb
    xyz = xyz / [0.9505, 1, 1.089]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colors_are_told_apart(vision):
    """By more than 12 in CIELAB's difference, of which 2.3 is just noticeable."""
    matrix = np.array(VISION[vision])
    seen = {name: lab(np.clip(matrix @ linear(look.color), 0, 1)) for name, look in LOOKS.items()}
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 12, (one, other)


def test_every_operation_has_a_look_of_its_own():
    assert set(LOOKS) == set(DECODER_OPERATIONS)
    assert len({(look.marker, str(look.dashes)) for look in LOOKS.values()}) == len(LOOKS)
    for look in LOOKS.values():
        luminances = [
            0.2126 * r + 0.7152 * g + 0.0722 * b
            for r, g, b in (linear(look.color), linear(text_color(look.color)))
        ]
        low, high = sorted(luminances)
        assert (high + 0.05) / (low + 0.05) > 3.5  # contrast of the words upon it
