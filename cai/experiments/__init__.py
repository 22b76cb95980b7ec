"""The claims about soft optimality, each as one small experiment that may also refute it."""
