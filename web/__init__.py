"""A small server and its pages, on the user's own machine."""
