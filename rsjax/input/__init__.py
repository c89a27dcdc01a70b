"""From shards to standardised batches on the device.

`shards` writes a dataset as ArrayRecord files with a manifest, and `histograms` the classes of each
record; `source` reads records by index; `sampling` decides the order; `readahead` reads batches
ahead and gives up on one that hangs; `pipeline` slices the order over processes and places batches
on the mesh;
`preprocess` and `augment` do all arithmetic on the device, inside the jitted step. The training
path opens no GeoTIFF and imports no TensorFlow. The state of the pipeline is one integer, the
number of samples consumed, so the number of hosts may change between runs.
"""
