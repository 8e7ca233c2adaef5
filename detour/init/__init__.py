"""`detour init`: from a folder of documents to a folder with everything that a detour and its twin need."""
