"""A page that shows how good a bundle is, and where it errs."""
