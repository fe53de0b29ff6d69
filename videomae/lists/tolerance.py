"""The limit of unreadable videos, above which training and packing stop."""

JUDGED_FROM = 100
"""Number of tried files from which the share of bad ones is checked; at the end of a list it always
is."""


def too_many_bad(num_bad: int, num_tried: int, max_bad_fraction: float) -> bool:
    """Return whether more files are bad than the limit allows; one bad file is always allowed.

    Args:
        num_bad: number of distinct files that cannot be read.
        num_tried: number of distinct files tried so far, the bad ones included.
        max_bad_fraction: largest allowed share of bad files, 0 to 1.
    """
    return num_bad > max(1, max_bad_fraction * num_tried)
