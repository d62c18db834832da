"""What other programs leave: BrainVoyager, GLMsingle, SPM and FSL."""
