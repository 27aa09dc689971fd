"""Settings -> a plan -> a job -> a trained model, also after an interruption."""
