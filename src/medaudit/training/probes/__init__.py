"""What frozen features are worth: kNN, linear heads, logistic regression, few shots, dense heads, and fine-tuning.

All but fine-tuning work on features that were computed once, without augmentation: the released protocols augment, and
mix, at every epoch. Nothing is chosen on test cases: what is tuned is tuned on validation cases.
"""
