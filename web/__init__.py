"""Pages in a browser, served from this machine: faces to explore, a training to watch, people to name."""
