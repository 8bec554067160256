"""Where does a model's bias come from? The controlled trainings of arXiv 2511.00477, and what their scores say.

Read in this order: ``design`` (which model is trained on whom, with whose labels), ``trainings`` (train and predict,
resumable), ``study`` (from scores to six findings), ``causes`` (the rules), ``latent`` and ``morphometry`` (what the
images themselves say), ``run`` (all of it in one folder), ``page`` (the report), ``nnunet`` (trained elsewhere).
"""
