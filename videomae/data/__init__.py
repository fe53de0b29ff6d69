"""Training data: frame sampling, masks, augmentation, and worker processes that decode videos."""
