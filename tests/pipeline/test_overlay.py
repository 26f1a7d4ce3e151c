"""A heatmap over its image: colours say the sign, strength the size, and the image stays to be seen."""

import numpy as np
import pytest
from PIL import ImageFont

from pipeline.draw.overlay import FADED, GAP, LINE, SIDE, overlay, panels, scale_of, shortened


def test_red_adds_blue_takes_and_nothing_leaves_the_image():
    picture = np.full((2, 3, 3), 0.5, dtype=np.float32)
    heat = np.array([[4.0, -4.0, 0.0], [8.0, 2.0, -1.0]], dtype=np.float32)
    drawn = overlay(picture, heat, 4.0).astype(int)
    assert drawn.dtype != np.uint8
    assert drawn.shape == (2, 3, 3)
    assert drawn[0, 0, 0] > 180 > drawn[0, 0, 2]
    assert drawn[0, 1, 2] > 180 > drawn[0, 1, 0]
    assert (drawn[0, 2] == 128).all()
    assert (drawn[1, 0] == drawn[0, 0]).all()  # above the scale all alike
    assert drawn[0, 0, 0] > drawn[1, 1, 0] > 128  # half the heat, half the colour


def test_colour_fades_below_and_no_heat_at_all_is_drawn_too():
    picture = np.zeros((1, 1, 3), dtype=np.float32)
    picture[..., 1] = 0.9
    drawn = overlay(picture, np.zeros((1, 1), dtype=np.float32), scale_of(np.zeros((1, 1), dtype=np.float32)))
    assert drawn[0, 0].tolist() == [
        round(255 * FADED * 0.3),
        round(255 * (0.9 - FADED * 0.6)),
        round(255 * FADED * 0.3),
    ]


def test_one_pixel_does_not_set_the_scale():
    heat = np.ones((64, 64), dtype=np.float32)
    heat[3, 3] = 1000
    assert scale_of(heat) == 1


@pytest.mark.parametrize("shape", [(64, 64), (56, 72)])
def test_panels_stand_side_by_side_and_keep_the_shape(shape):
    picture = np.zeros((*shape, 3), dtype=np.float32)
    picture[:, :, 0] = 1.0
    heat = np.zeros(shape, dtype=np.float32)
    heat[: shape[0] // 2] = -1.0
    sheet = panels(picture, heat, "a title" * 200)
    assert sheet.size == (2 * SIDE + 3 * GAP, round(SIDE * shape[0] / shape[1]) + 2 * LINE + 3 * GAP)
    left, right = SIDE // 2, SIDE + GAP + SIDE // 2
    assert sheet.getpixel((GAP + left, GAP + LINE + 20)) == (255, 0, 0)
    red, _, blue = sheet.getpixel((GAP + right, GAP + LINE + 20))
    assert blue > red
    assert sheet.getpixel((sheet.width - 1, GAP + 4)) == (255, 255, 255)  # the title is cut


def test_long_titles_are_cut():
    font = ImageFont.load_default(14)
    assert shortened("short", font, 200) == "short"
    cut = shortened("x" * 500, font, 200)
    assert cut.endswith("...")
    assert font.getlength(cut) <= 200
