"""Training of networks by instance-prototype contrastive learning (IPCL)."""
