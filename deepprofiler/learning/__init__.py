"""Crops in, networks and features out: TensorFlow, Keras and ``tf.data``."""

import os

# Keras reads this once, when it is imported, and would otherwise follow a file in the user's home.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
