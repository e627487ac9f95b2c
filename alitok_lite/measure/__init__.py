"""Quality of pictures and predictability of tokens: numbers, maps, and samples for an FID.

The numbers of single pictures are in metrics.py, those of a whole model in evaluation.py.
"""

from .evaluation import evaluate
from .judge import Judge, stored_judge, train_judge
from .metrics import frechet_distance, nats_per_token, psnr, row_errors, ssim
