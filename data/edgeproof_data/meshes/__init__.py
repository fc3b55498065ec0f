"""Views of meshes: reading them, where the cameras stand, and a rasteriser in numpy."""
