// The training page.
