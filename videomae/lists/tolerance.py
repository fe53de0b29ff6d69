"""How many unreadable videos training and packing put up with before they stop."""

JUDGED_FROM = 100
"""Files tried before their share of bad ones means something; the end of a list counts anyway."""


def too_many_bad(num_bad: int, num_tried: int, max_bad_fraction: float) -> bool:
    """Return whether more files are bad than the limit allows, which is never less than one file.

    Args:
        num_bad: distinct files that cannot be read.
        num_tried: distinct files tried so far, the bad ones included.
        max_bad_fraction: the share of bad files that is put up with.
    """
    return num_bad > max(1, max_bad_fraction * num_tried)
