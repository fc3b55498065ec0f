"""The built-in data set: rendered 3-D solids in colours and materials, with captions."""
