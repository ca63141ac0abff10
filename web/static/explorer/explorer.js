// The explorer page.
