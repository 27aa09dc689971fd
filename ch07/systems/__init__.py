"""Systems from the literature around the chapter; each is tested against its original."""
