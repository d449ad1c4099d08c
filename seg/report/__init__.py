"""Reports for people: one HTML file per run or sweep that holds all it shows and asks no network for anything."""
