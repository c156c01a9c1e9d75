"""The product from end to end: the real Loader, a stand-in JitNode, a stand-in platform, and what a person sees."""
