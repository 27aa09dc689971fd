"""The museum of mistakes: real ones from this field, a few lines each; nothing here calls them."""
