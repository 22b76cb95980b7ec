"""The claims made for soft optimality, each as one small experiment that may find against it."""
