"""From a scene to a map to hectares: maps on disk, areas of their classes, samples to check them.

A map is one band of class codes with its nomenclature in its tags (`landmap`). Whatever is read or
written here goes by blocks of pixels, so memory does not grow with the scene. Areas are those on
the ellipsoid, whatever the projection (`pixel_area`); pixel counts become error-adjusted areas with
standard errors only by a reference sample of stated design (`area_estimate`). Nothing here knows
of training.
"""
