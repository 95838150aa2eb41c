"""One module for each family of API objects: parameters in, stored objects and events out."""
