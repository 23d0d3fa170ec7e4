"""What rewards with a network share: weight files, towers, preprocessing, and where networks live."""
