"""What does a model that turns one image into another erase, and what does it invent?

    genmed-hallucinations TRUTH OUTPUT [--input DIR] [--lesions DIR|FILE.csv] [--json FILE]
                          [--html FILE]

A folder holds PNG or JPEG images of 8 bits, or a folder of them for each class. Partners have the
same name, but for the suffix, and the same size; all are made grey and 64x64. `TRUTH` is what the
output should be: the film at full dose, the film without ribs. `--input` is what the model was
given: its own figures stand beside the output's and say what doing nothing would have scored.
`--lesions` says where lesions are: masks named as the truth's films, or a list (name, x, y,
radius). Without it the detector's own marks in the truth stand for lesions, and the report says so.

Lesions are round nodules, found by a small network that has seen nothing but phantoms. A lesion is
erased where it is found in the truth and nothing is seen there in the output; a lesion is invented
where the output is marked and the truth shows nothing. What is nearly seen counts as neither. Both
shares have 95 % intervals and are corrected for what the detector itself misses. Healthy anatomy:
the change outside lesions over that of a slight blur, and lungs and heart as the audit's segmenter
outlines them. PSNR and SSIM stand beside, so that one sees how little they say about lesions.

Verdicts fail closed, as the audit's: nothing passes unless the detector is shown to see the truth's
lesions, and what straddles its bar is unclear.

Exit status: 0 after a measurement, whatever it found; 1 when a report could not be written; 2 when
the input cannot be used.
"""

from genmed_core.audit.folders import AuditError
from genmed_core.hallucinations.command import main
from genmed_core.hallucinations.detector import Detector, Marks, marks, nodule_detector, scores
from genmed_core.hallucinations.page import page
from genmed_core.hallucinations.paired import Lesions, Paired, components, read_pairs
from genmed_core.hallucinations.report import BARS, from_tensors, hallucinations, table

__all__ = ["BARS", "AuditError", "Detector", "Lesions", "Marks", "Paired", "components",
           "from_tensors", "hallucinations", "main", "marks", "nodule_detector", "page",
           "read_pairs", "scores", "table"]
