"""Videos: readers by several decoders, inspection for damage, and packed data sets."""
