"""Does this tree compute what another commit computes? See scripts/same_numbers.py."""
