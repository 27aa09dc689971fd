"""The training formats of Stanford Alpaca, Chinese-LLaMA-Alpaca, ChatGLM-6B and Lamini."""
