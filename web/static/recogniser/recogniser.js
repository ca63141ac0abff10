// The recogniser page.
