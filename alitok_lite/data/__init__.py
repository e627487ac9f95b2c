"""Pictures to learn from: those of a folder, sources of batches, orders of patches, picture files.

Painted ones come from scenes/.
"""

from .images import load_picture, save_png, sheet
from .pictures import PictureFolder, fingerprint
from .scan import scanned, unscanned
from .sources import FolderSource, ScannedSource, SceneSource, Source, open_source, random_scenes
