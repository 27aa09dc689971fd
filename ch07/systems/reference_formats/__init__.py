"""The training rows of Stanford Alpaca, Chinese-LLaMA-Alpaca, ChatGLM and Lamini."""
