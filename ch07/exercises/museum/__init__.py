"""The museum of bugs: real mistakes of this field, a few lines each; nothing here calls them."""
