"""The museum of mistakes: real ones of this field, a few lines each; nothing here calls them."""
