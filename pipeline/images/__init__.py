"""Where probe images come from, one module a form.

| module | what it says |
| --- | --- |
| `probe_set` | the images of a run, with an identity; batches of pixels |
| `windows` | views of an image: whole, and nine windows |
| `decoding` | bytes of a file -> RGB picture, or why not; thumbnails |
| `licences` | which licences let a thumbnail be published |
| `entry` | what a source says of one image before it is read; what a source is |
| `folder` | image files in a folder or below a URL, with classes and metadata files |
| `tables` | Parquet files with a column of images |
| `archives` | WebDataset: tar files of samples |
| `hub` | a dataset by its Hugging Face name |
| `world` | scenes of the zoo's procedural world |
"""
