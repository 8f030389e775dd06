"""Are synthetic images faithful, varied, useful and private? An audit of three folders of images.

    genmed-audit --train DIR --held-out DIR --synthetic DIR [--json FILE]

A folder holds PNG or JPEG images, or a folder of them for each class (<class>/*.png or
<class>/images/*.png). All are made grey and 64x64. `train` is what the generator was fitted to,
`held-out` real images of the same kind, of other patients, that it never saw: they show what honest
samples would score, and every figure stands beside theirs.

What the features see. Fidelity, variety and usefulness: fixed random filters on three scales, their
energy on a 4x4 grid, 8x8 mean brightness and quantiles, in the held-out set's leading directions.
They see texture, contrast, blur, layout and exposure, in X-rays of any source. They know no
anatomy: a heart on the wrong side in right texture, or a missing rib, hardly moves them, and
nothing below 1/64 of the width is seen. Leading directions favour what varies much, hence blur: the
energy in fine detail is reported beside them. Privacy: maps of local contrast (32x32), compared by
correlation over flips and shifts of up to 9 %, blind to brightness and contrast. They see copies,
also mirrored, shifted, brightened or noisy ones. They do not see a patient in another position or a
copy rotated by more than a few degrees. A pass is no proof of privacy: it says that these attacks
fail.

Exit status: 0 after an audit, whatever it found; 1 when its JSON could not be written; 2 when the
input cannot be used.
"""

from genmed_core.audit.attacks import privacy
from genmed_core.audit.command import main
from genmed_core.audit.features import fine_detail, leading_directions, random_features
from genmed_core.audit.folders import LEAST, SETS, SIZE, AuditError, Folder, read_folder
from genmed_core.audit.intervals import RESAMPLES, auc, close_share, equal_share
from genmed_core.audit.neighbours import fingerprints, nearest
from genmed_core.audit.quality import quality, utility
from genmed_core.audit.questions import ALPHA, BARS, judge
from genmed_core.audit.report import audit, table

__all__ = ["ALPHA", "BARS", "LEAST", "RESAMPLES", "SETS", "SIZE", "AuditError", "Folder",
           "auc", "audit", "close_share", "equal_share", "fine_detail",
           "fingerprints", "judge", "leading_directions", "main", "nearest", "privacy", "quality",
           "random_features", "read_folder", "table", "utility"]
