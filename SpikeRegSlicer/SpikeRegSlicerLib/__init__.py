"""What the module SpikeRegSlicer is made of: parameters, the background process, the scene layer and widget parts.

The library SpikeRegLib lies beside this package once installed. In a source tree it lies one folder above, where Python
finds it only because of what is done here.
"""

from SpikeRegSlicerLib.library import makeImportable

makeImportable()
