"""Draws, detects, aligns, crops, annotates and recognises faces."""
