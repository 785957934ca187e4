"""What was trained, put to images: a run or an exported file, one behaviour."""
