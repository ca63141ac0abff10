"""Pages in a browser, served from this machine: explore faces, watch runs train, name people."""
