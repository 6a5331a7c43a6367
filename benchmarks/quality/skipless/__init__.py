"""Training of deep encoders without skip connections and norms, by OSA and by softmax."""
