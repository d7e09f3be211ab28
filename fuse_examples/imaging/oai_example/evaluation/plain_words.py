"""What the figures of a report mean, in words for those who read scans and not code."""

from collections.abc import Mapping, Sequence

from fuse_examples.imaging.oai_example.evaluation.report import Facts, Paragraph, Section

MEANINGS = {
    "Dice": "Overlap of the predicted and the true structure: 1 where they are the same voxels, 0 where they do not touch.",
    "surface Dice": "Share of the two surfaces that lie within the tolerance of each other; 1 is best.",
    "HD95": "Distance in mm that 95 % of the surface stays within; it shows places that are far off. 0 is best.",
    "ASSD": "Mean distance in mm between the two surfaces; 0 is best.",
    "volume error": "Predicted less true volume in millilitres: above 0 the structure came out too large.",
    "thickness error": "Predicted less true mean thickness in mm: above 0 it came out too thick.",
    "AUC": "Chance that of two cases, one of the class and one not, the network gives the one of the class the higher probability. "
    "0.5 is guessing, 1 is perfect.",
    "average precision": "Share of right calls among the called ones, averaged over all thresholds; guessing reaches the class's share.",
    "balanced accuracy": "Mean over classes of the share of each class that was called right.",
    "sensitivity": "Share of the cases of the positive class that were called positive, at the threshold of the table.",
    "specificity": "Share of the other cases that were not called positive, at that threshold.",
    "F1": "Middle way between finding all cases of a class and calling no others; 1 is best.",
    "Brier score": "Mean squared distance of the probability from what was so; 0 is best.",
    "calibration error": "How far probabilities are from observed shares: of cases given 0.8, about 8 in 10 should be of the class.",
    "quadratic kappa": "Agreement of grades beyond chance; being off by two grades counts four times as much as by one.",
    "mean absolute error": "Mean distance of prediction and truth, in the column's own unit, or in grades.",
    "R²": "Share of the variation between cases that the prediction explains; 0 is as good as always giving the mean.",
    "rank correlation": "Whether higher predictions go with higher truth: 1 in the same order, 0 in none.",
    "effective rank": "How many independent directions the network's features use; near 1 all scans look the same to it.",
    "k-NN, linear": "Probes: simple classifiers that read a column of the table from the features, without training the network on it.",
}
DIRECTIONS = (
    "Letters at the edges of a picture are directions of the patient: R right, L left, A anterior (front), P posterior (back), S superior "
    "(head), I inferior (feet). As in radiology the patient's right is at the left of the picture. Where a scan is oblique, a letter is "
    "the nearest direction, and positions in mm are those of the slice's centre."
)
SCROLLING = (
    "Slices are changed with the wheel over the picture, with the arrow keys once it is clicked, or with the slider; the boxes hide what "
    "lies over the scan. Pictures are reduced; the files in the test folder are on the scan's own grid."
)


def reading_section(names: Sequence[str], *more: str, how: Mapping[str, str] | None = None) -> Section:
    """Return the section that explains the named metrics, what else is said, and how each is computed."""
    meanings = Facts({name: MEANINGS[name] for name in names if name in MEANINGS})
    paragraphs = [Paragraph(text) for text in more]
    exact = [Paragraph("Exact definitions: " + " ".join(f"{name}: {text}." for name, text in how.items()), "note")] if how else []
    return Section("How to read the figures", [meanings, *paragraphs, *exact])
