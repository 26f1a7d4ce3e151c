"""Where probe images come from, one module a form.

| module | what it says |
| --- | --- |
| `probe_set` | the images of a run, with an identity; batches of pixels |
| `windows` | views of an image: whole, and nine windows |
| `decoding` | bytes of a file -> RGB picture, or why not; thumbnails |
| `licences` | which licences let a thumbnail be published |
| `entry` | what a source says of one image before it is read; what a source is |
| `spec`, `choice` | from a set's name to its source, and what the end of the name chooses |
| `stored`, `listing`, `kinds`, `naming` | which form lies in a folder; its files, links followed; what a file is |
| `folder` | image files in a folder or below a URL |
| `classes`, `metadata` | classes from sub-folders; metadata files |
| `tables`, `columns` | Parquet files with a column of images; which columns are meant |
| `archives` | WebDataset: tar files of samples |
| `hub` | a dataset by its Hugging Face name, or as `save_to_disk` wrote it |
| `manifest`, `pixel_cache` | what was seen at an earlier start; decoded images of a run |
| `world` | scenes of the zoo's procedural world |
"""
