"""What the module SpikeRegSlicer is made of: parameters, the background process, the scene layer and widget parts."""
