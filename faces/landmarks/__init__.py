"""Facial landmarks: point sets, annotation files, shape-aware losses, training and prediction.

    points = load_point_set("faces-68")               # names, mirror pairs, areas, eyes
    annotations = read_annotations("photos")          # a CSV, or the Cat data set's .cat files
    predictor = load_predictor("outputs/landmarks/0001-photos-64px")     # faces.landmarks.predictor

Coordinates are x, y with (0, 0) at the top left: in pixels of an image, or as fractions of a crop's side.
"""
