"""The exercises of each chapter: sheets/chapter_NN.py makes `sheet`."""
