"""Run directories -> pages and pictures that anyone can open. Nothing here needs torch."""
