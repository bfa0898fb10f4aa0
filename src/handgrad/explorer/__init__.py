"""The explorer: a page that shows a forward and a backward pass of a model, every number of it.

The page's files are in `page/`; `Explorer` answers what the page asks, `server` brings it the questions, and
`write_page` puts the answers into one file.
"""

from .explorer import Explorer
from .export import write_page
from .shelf import Shelf, shelf_of

__all__ = ["Explorer", "Shelf", "shelf_of", "write_page"]
