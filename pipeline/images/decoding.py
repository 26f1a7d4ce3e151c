"""Bytes of an image file to the RGB picture its owner expects, or the reason why not, in plain words."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from atlas_schema.errors import BadImage
from pipeline.images.kinds import HEAD, what_is
from pipeline.models.preprocess import centre_of

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What Pillow may take bytes for. Not its whole list: some formats start other programs (EPS), and some have no
signature, so that a text could pass for a picture (TGA)."""

MIN_SIDE = 16
"""Pixels: below it an image shows nothing that a patch could be about."""

BEHIND = (255, 255, 255)
"""Colour behind transparent pixels: white, as on a page."""

THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 112, 75


def decoded(data: bytes) -> Image.Image:
    """The picture in a file, RGB, upright; of an animation the first frame.

    16-bit grey is scaled to 8 bits (65535 is white; 4095 in a TIFF of 12 bits), transparency stands on white, CMYK
    and palettes are converted, the orientation in EXIF is applied, colour profiles are not. BadImage where that
    cannot be; its message is the reason alone, without the name of the file.
    """
    if not data:
        raise BadImage("the file is empty (0 bytes)")
    try:
        Image.init()
        with Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            _check_side(image)
            stored = str(image.tile)  # how the file holds pixels: loading it forgets
            image.load()
            return _rgb(_upright(image), stored)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage(_no_image(data)) from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise BadImage(f"too many pixels: more than the {limit:,} that Pillow takes for safe") from error
    except MemoryError as error:
        raise BadImage("too large: decoding it exhausts the memory") from error
    except Exception as error:  # each format's decoder has exceptions of its own, down to RuntimeError
        raise BadImage(_damaged(error)) from error


def thumbnail(image: Image.Image, side: int = THUMBNAIL_SIDE) -> bytes:
    """WebP of the centre square, side x side pixels: the square that models see, whatever the image's shape."""
    square = centre_of(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    square.save(file, "WEBP", quality=THUMBNAIL_QUALITY)
    return file.getvalue()


def _check_side(image: Image.Image) -> None:
    if min(image.size) < MIN_SIDE:
        width, height = image.size
        raise BadImage(f"{width} x {height} pixels: too small to show anything: at least {MIN_SIDE} px a side")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF is no reason to lose the picture: any parser error may come
        return image


def _rgb(image: Image.Image, stored: str) -> Image.Image:
    if image.mode.startswith("I"):  # I;16 and its byte orders; I from a 16-bit PGM
        return _from_16_bits(np.asarray(image), white=4095 if "I;12" in stored else 65535)
    if image.mode == "F":
        raise BadImage("floating-point pixels, of which none is said to be white: convert it to 8 or 16 bits")
    if ";16" in stored:  # Pillow keeps the high byte of 16-bit colour
        colours = image.convert("L") if image.mode.startswith("L") else image.convert("RGB")
        _check_bright(int(np.asarray(colours).max()) << 8 | 255)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    page = Image.new("RGBA", image.size, (*BEHIND, 255))
    return Image.alpha_composite(page, image).convert("RGB")


def _from_16_bits(values: np.ndarray, white: int) -> Image.Image:
    brightest = int(values.max())
    if values.min() < 0 or brightest > 65535:
        raise BadImage("32-bit pixels, of which none is said to be white: convert it to 8 or 16 bits")
    if white == 65535:
        _check_bright(brightest)
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8)).convert("RGB")


def _check_bright(brightest: int) -> None:
    """Cameras and scanners of 12 bits often write their values into 16-bit files as they are: all but black."""
    if brightest < 4096:
        raise BadImage(
            f"16-bit pixels, none above {brightest:,} of 65,535, as 12-bit data are: scale it to the whole range"
        )


def _no_image(data: bytes) -> str:
    what = what_is(data[:HEAD])
    if what == "a text":
        return "text, not an image"
    if what:
        return f"no image: it is {what}"
    return f"not an image in a format that is read ({', '.join(FORMATS)}), or its first bytes are damaged"


def _damaged(error: Exception) -> str:
    said = str(error) or type(error).__name__
    if "truncated" in said.lower() or isinstance(error, EOFError):
        return f"truncated: the file ends before the picture does ({said})"
    return f"damaged: the picture cannot be decoded ({said})"
