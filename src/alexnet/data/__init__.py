"""A source of images, however it is laid out, -> a Store (packed once, found again) -> batches."""
