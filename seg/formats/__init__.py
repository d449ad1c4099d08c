"""Formats of annotation tools: export of masks, and annotations as a data set."""

from seg.formats.record import Picture as Picture
from seg.formats.record import Shape as Shape
from seg.formats.record import picture_of as picture_of
from seg.formats.write import MASKS as MASKS
from seg.formats.write import WITH_CLASSES as WITH_CLASSES
from seg.formats.write import WITH_SCORES as WITH_SCORES
from seg.formats.write import Format as Format
from seg.formats.write import check_format as check_format
from seg.formats.write import save_mask as save_mask
from seg.formats.write import write as write
from seg.formats.write import write_classes as write_classes
