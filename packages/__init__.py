"""Builds what Waystation is installed from: a wheel, a .deb, an .rpm, and the list of what is in them."""
