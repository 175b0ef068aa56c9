"""Pictures of regions and functions, exact as the regions are."""
