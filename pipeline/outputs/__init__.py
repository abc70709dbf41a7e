"""What comes out: Parquet files and the ways to open them."""
