"""A complete second IM Type on a platform of our own: the proof that Meta knows no DingTalk, and what to copy from."""
