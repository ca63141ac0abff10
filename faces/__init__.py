"""Looks at faces: draws them with known labels, and will find, align and recognise them."""
