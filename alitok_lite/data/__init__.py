"""Pictures: a training folder (folders.py, pictures.py), a user's picture file (images.py, containers.py).

sources.py makes batches of a folder or of painted scenes for training; scan.py puts patches into another order.
"""

from .images import load_picture, save_png, sheet
from .pictures import PictureFolder, fingerprint
from .scan import scanned, unscanned
from .sources import FolderSource, ScannedSource, SceneSource, Source, open_source, random_scenes
