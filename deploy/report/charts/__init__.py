"""Charts as hand-made SVG: readable without scripts, printable, coloured by the page's CSS."""
