"""What a scan is: voxels with their place in the patient (mm, LPS), and the files they come from."""
