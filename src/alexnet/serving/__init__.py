"""A classifier for others: over HTTP, and on the pictures of a camera."""
