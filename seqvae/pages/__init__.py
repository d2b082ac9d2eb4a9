"""Pages about a run, to be read and shared: HTML and Markdown in one file each."""
