"""What is known of devices: geometry and materials."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_SCANNED = (
    *("created_at", "id", "status", "device_type", "file_state", "features_id", "workflow_id"),
    *("sample_id", "completion_percentage", "total_steps", "transfer_steps", "transient_steps"),
    *("completed_at", "chip_id", "device_id", "batch_id", "search_text"),
)


def upgrade() -> None:
    """Add the tables of samples, and what refers to them."""
    op.create_table(
        "samples",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", _words, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_samples"),
    )
    op.create_index("ix_samples_digest", "samples", ["digest"], unique=True)
    op.create_table(
        "sample_values",
        sa.Column("sample_id", sa.Integer(), nullable=False),
        sa.Column("key", _words, nullable=False),
        sa.Column("number", sa.Float(), nullable=True),
        sa.Column("text", _words, nullable=True),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name="fk_sample_values_sample_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sample_id", "key", name="pk_sample_values"),
    )
    for column in ("number", "text"):
        op.create_index(
            f"ix_sample_values_key_{column}_sample_id",
            "sample_values",
            ["key", column, "sample_id"],
            unique=False,
        )
    op.create_table(
        "sample_table",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", _words, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sample_table"),
    )
    # As text, since SQLite takes the constraint with the column only.
    op.execute(
        "ALTER TABLE experiments ADD COLUMN sample_id INTEGER "
        "CONSTRAINT fk_experiments_sample_id REFERENCES samples (id)"
    )
    op.add_column("raw_files", sa.Column("sample", sa.Text(), nullable=True))
    op.drop_index("ix_scan", table_name="experiments")
    op.create_index("ix_scan", "experiments", list(_SCANNED), unique=False)
