"""Looks at faces: draws them, finds them, cuts them out, marks points on them and tells who they are."""
