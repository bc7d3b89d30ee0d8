"""The reduction methods, as frozen values: score · match · combine · order · schedule."""
