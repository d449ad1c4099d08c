"""Codes of masks beside 0, background, and the classes from 1 on."""

#: Of a ground truth: the border between object and background. 255: no ground truth, no decision, or ignored.
BORDER, UNKNOWN = 254, 255
