"""The models, as plain torch modules, and the way to and from nnU-Net.

Import from the files: ``segmentation`` needs torch and MONAI, ``nnunet`` neither.
"""
