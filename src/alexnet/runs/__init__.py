"""Run directories: what one holds, how it came about, what it says of images."""
