"""What a program can be on a cell at most: intervals, zonotopes, backward linear bounds."""
