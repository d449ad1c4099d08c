"""Reports: pictures, and a self-contained HTML page per run."""
