"""The output: Parquet files and the ways to open them."""
