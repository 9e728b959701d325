"""Text generation: the engine port and its engines, and the text layer over them."""
