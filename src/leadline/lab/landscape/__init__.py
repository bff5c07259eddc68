"""Energy landscapes of points: minima, basins and mergers against tau, and maps of the plane."""

from leadline.lab.landscape.measuring import landscape
from leadline.lab.landscape.points import Points, image_points, toy_points

__all__ = ["Points", "image_points", "landscape", "toy_points"]
