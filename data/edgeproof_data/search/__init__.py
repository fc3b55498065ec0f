"""Finding images in large collections by words or by images, and choosing which of them to keep."""
