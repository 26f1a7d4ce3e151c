"""What threads make of many pictures is what one makes of them, in order."""

import time

import numpy as np
import pytest
import torch

from pipeline.visualize.initial_images import own_noises
from pipeline.visualize.parametrize import Fourier
from pipeline.visualize.picture import encode_webp, stored_pixels
from pipeline.visualize.recipes import FAST
from pipeline.visualize.threads import each
from pipeline.visualize.transforms import draw

KEYS = [("fast", f"model/0/{unit}", "ascent 0", 0) for unit in range(7)]


@pytest.fixture
def computing_with():
    """Sets torch's number of threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def random_numbers():
    like = torch.empty(0)
    steps = draw(KEYS, FAST.ascents_at(0.5)[0], (32, 48), like)
    return [own_noises(KEYS, Fourier(32, 48, 1.0), like), *(part for step in steps for part in vars(step).values())]


def test_random_numbers_do_not_depend_on_threads(computing_with):
    computing_with(1)
    alone = random_numbers()
    computing_with(4)
    assert all(torch.equal(one, other) for one, other in zip(alone, random_numbers(), strict=True))


def test_files_come_back_in_their_order_whichever_is_ready_first(computing_with):
    computing_with(4)
    pictures = [np.full((16, 24, 3), 30 * number, np.uint8) for number in range(6)]

    def encode(picture):
        time.sleep(0.03 - picture[0, 0, 0] / 6000)
        return encode_webp(picture, 90)

    read = torch.stack(each(stored_pixels, each(encode, pictures)))
    assert read.shape == (6, 3, 16, 24)
    assert read.mean((1, 2, 3)).mul(255).round().tolist() == pytest.approx([30 * n for n in range(6)], abs=2)


@pytest.mark.parametrize("threads", [1, 4])
def test_what_fails_first_is_raised(computing_with, threads):
    computing_with(threads)
    with pytest.raises(ZeroDivisionError):
        each(lambda number: 1 / number, [3, 2, 1, 0])
