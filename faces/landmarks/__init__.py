"""Face landmarks: their names, their files, the losses that know a face's shape, and what learns them.

    chosen = point_set("faces-68")                    # names, mirror pairs, areas, eyes
    annotations = read_annotations("photos")          # a CSV, or the Cat data set's .cat files
    predictor = load_predictor("outputs/landmarks/0001-photos-64px")     # faces.landmarks.predictor

Coordinates are x, y with (0, 0) at the top left: of an image in pixels, of a crop as fractions of its side.
"""
