"""Web pages: HTML, CSS and JavaScript, and what joins them into one file that needs no network."""
