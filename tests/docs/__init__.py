"""The site of the docs: its generated pages, and tests of all pages."""
