"""Tool use: API calls as answers, BM25 retrieval of documentation, a toy API dataset."""
