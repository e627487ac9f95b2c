"""Quality of pictures and predictability of tokens.

The formulas are in metrics.py and sampling_loss.py; evaluation.py computes all of them for a model. Attention and
dependency maps are in probe.py, tens of thousands of pictures for an FID in fid.py.
"""

from .evaluation import evaluate
from .judge import Judge, stored_judge, train_judge
from .metrics import frechet_distance, nats_per_token, psnr, row_errors, ssim
