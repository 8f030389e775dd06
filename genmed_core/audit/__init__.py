"""Are synthetic images faithful, varied, useful and private? An audit of three folders of images.

    genmed-audit --train DIR --held-out DIR --synthetic DIR [--json FILE] [--html FILE]

A folder holds PNG or JPEG images, or a folder of them for each class (<class>/*.png or
<class>/images/*.png). All are made grey and 64x64. `train` is what the generator was fitted to,
`held-out` real images of the same kind, of other patients, that it never saw: they show what honest
samples would score, and every figure stands beside theirs.

Verdicts fail closed. A question passes only where the whole 95 % interval lies on the good side of
its bar; what straddles it is unclear. Every near-duplicate is listed with its pair, and one is
enough to fail. Planted copies ("canaries") say which kinds would have been seen. A pass is no proof
of privacy: it says that these attacks failed, and the report ends with what was not tested.

What is seen. Fidelity and variety: fixed random filters on three scales, their energy on a 4x4
grid, 8x8 mean brightness and quantiles, in the held-out set's leading directions; they know no
anatomy. Anatomy, asked only where two lungs and a heart between them are found in nine of ten real
images: heart and lungs as a segmenter outlines them that was trained on phantoms. Usefulness: a
small convolutional network. Privacy: maps of local contrast (32x32), blind to brightness and
contrast, compared over flips and shifts; an embedding that is trained here to know the real images
again when turned, zoomed, mirrored and exposed otherwise; and, for copies, every sample laid over
its candidates at the best pose. A patient at another visit or in another
position is not known again.

Exit status: 0 after an audit, whatever it found; 1 when a report could not be written; 2 when the
input cannot be used.
"""

from genmed_core.audit.attacks import Known, Neighbours, privacy
from genmed_core.audit.canaries import KINDS, canaries, planted
from genmed_core.audit.command import main
from genmed_core.audit.features import fine_detail, leading_directions, random_features
from genmed_core.audit.folders import SETS, AuditError, Folder, read_folder
from genmed_core.audit.intervals import auc, equal_share
from genmed_core.audit.neighbours import fingerprints, nearest
from genmed_core.audit.page import page
from genmed_core.audit.quality import quality
from genmed_core.audit.questions import ALPHA, BARS, judge
from genmed_core.audit.report import Prepared, audit, prepare, table
from genmed_core.audit.usefulness import utility

__all__ = ["ALPHA", "BARS", "KINDS", "SETS", "AuditError", "Folder", "Known", "Neighbours",
           "Prepared", "auc", "audit", "canaries", "equal_share", "fine_detail", "fingerprints",
           "judge", "leading_directions", "main", "nearest", "page", "planted", "prepare",
           "privacy", "quality", "random_features", "read_folder", "table", "utility"]
