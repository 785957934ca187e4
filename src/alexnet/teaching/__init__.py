"""`alexnet teach`: a folder of pictures that is filled on a page, and learned from at once."""
