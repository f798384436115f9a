"""Sizes that a model can generate for an image of some shape, and how much of the image each would cut away."""

from __future__ import annotations

from math import ceil, sqrt

from ..inputs.limits import MAX_SIDE

MOST = 8
"""Times the pixels of a size that another one, at which less of an image is cut away, may have at most."""


def measure_cut(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[str, float]:
    """What a scaled image of this size loses at the wanted size, in words and as a share; less than a pixel is none."""
    width, height = size
    kept_width, kept_height = min(width, height * wanted[0] / wanted[1]), min(height, width * wanted[1] / wanted[0])
    for lost, whole, what, sides in (
        (width - kept_width, width, "columns", "left and right"),
        (height - kept_height, height, "rows", "top and bottom"),
    ):
        if lost >= 1:
            share = lost / whole
            return f"{lost:.0f} of its {whole} {what} ({share:.1%}) are cut away, half each at {sides}", share
    return "", 0.0


def choose_size(image: tuple[int, int], pixels: int, multiple: int) -> tuple[int, int]:
    """The size at which little of an image is cut away, and few pixels are lost.

    The least of what is cut and the square of the share of pixels that is lost; never more is cut than at the sizes
    rounded down.

    Args:
        image: its width and height.
        pixels: those of the model's own size. No more than these, or than the image's own, are used; but an image too
            narrow for that gets the smallest size of its shape, of at most four times as many.
        multiple: what width and height must be multiples of.
    """
    short, long = sorted(image)
    area = min(short * long, pixels)
    if area * short / long < multiple**2:
        exact, most = ceil(long / short), 4 * pixels // multiple**2
        shapes = [(multiple, max(min(count, most), 1) * multiple) for count in (exact, exact - 1)]
        best = min(shapes, key=lambda shape: (measure_cut((short, long), shape)[1], -shape[1]))
    else:
        best = _choose_shape((short, long), area, multiple)
    return best if image[0] <= image[1] else (best[1], best[0])


def _choose_shape(image: tuple[int, int], area: int, multiple: int) -> tuple[int, int]:
    """The best of those sizes of at most so many pixels that are about as long as their width asks for."""
    short, long = image
    scale = sqrt(area / (short * long)) / multiple
    plain = int(short * scale + 1e-9) * multiple, int(long * scale + 1e-9) * multiple
    shapes = [plain]
    for side in range(multiple, max(int(sqrt(area)), multiple) + 1, multiple):
        exact, most = ceil(side * long / short / multiple), area // (side * multiple)
        shapes += [(side, count * multiple) for count in range(exact - 2, min(exact + 2, most) + 1) if count > 0]
    costs = [(measure_cut(image, shape)[1], 1 - shape[0] * shape[1] / area, shape) for shape in shapes]
    return min((cut + lost**2, shape) for cut, lost, shape in costs if cut <= costs[0][0])[1]


def find_least_cut(image: tuple[int, int], wanted: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The size that cuts least of an image, found by trying: of several the one nearest to a wanted size in pixels.

    Those that are smaller than it at both sides come last: nobody asked for less detail.
    """
    pixels, best = wanted[0] * wanted[1], (float("inf"), False, 0.0, 0)
    found = wanted
    for width in range(multiple, min(MOST * pixels // multiple, MAX_SIDE) + 1, multiple):
        exact = width * image[1] // image[0] // multiple
        most = min(MOST * pixels // width, MAX_SIDE) // multiple
        for height in {min(max(count, 1), most) * multiple for count in (exact, exact + 1)}:
            factor = width * height / pixels
            is_small = width < wanted[0] and height < wanted[1]
            cut = measure_cut(image, (width, height))[1]
            cost = (cut, is_small, max(factor, 1 / factor), -width * height)
            if cost < best:
                best, found = cost, (width, height)
    return found
