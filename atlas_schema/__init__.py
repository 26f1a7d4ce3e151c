"""The dataset: what an atlas is, how it is written, read and checked. Read in this order:

| module | what it says |
| --- | --- |
| `address` | the permanent names: `{slug}/mlp/{layer}/{unit}`, `{slug}/head/{layer}/{head}`, slugs of model ids |
| `columns`, `tables` | the tables as data: models, sites, neurons, runs; everything else is derived from them |
| `store` | one folder or URL; files are created once or replaced whole |
| `units` | a work unit: a stage of a model, cut along neurons, images, the model or a pair of models |
| `parts`, `partials` | what one work unit commits: `.atlas/parts/...`, the memory of a run |
| `shards` | what people read: `neurons/{slug}/train-...parquet`, a function of the parts, byte for byte |
| `read` | `Atlas(url)`: a neuron by its address, a layer, a picture, the places of pictures in a shard |
| `validate` | every fault of an atlas, by file |
| `card`, `docs` | README.md of the dataset and docs/tables.md, generated |

Below these: `rows` (rows against declarations), `parquet` (the bytes of a file), `parquet_columns` (columns of it by
their bytes), `pages` (one picture by the page index), `file_faults` (what can be wrong with one file), and `errors`,
the exceptions of the whole project.
"""
