"""What the site has that follows from the package, and so is made and not written."""
