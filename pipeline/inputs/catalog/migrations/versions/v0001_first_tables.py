"""The first tables of a catalog."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_words = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "feature_sets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", _words, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feature_sets"),
    )
    op.create_index("ix_feature_sets_digest", "feature_sets", ["digest"], unique=True)
    op.create_table(
        "imports",
        sa.Column("path", _words, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_imports"),
    )
    op.create_table(
        "other_files",
        sa.Column("path", _words, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("scanned_ns", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", _words, nullable=True),
        sa.Column("kind", _words, nullable=False),
        sa.Column("reason", _words, nullable=False),
        sa.Column("test_id", _words, nullable=True),
        sa.PrimaryKeyConstraint("path", name="pk_other_files"),
    )
    op.create_index("ix_other_files_test_id", "other_files", ["test_id"], unique=False)
    op.create_table(
        "workflows",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", _words, nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workflows"),
    )
    op.create_index("ix_workflows_digest", "workflows", ["digest"], unique=True)
    op.create_table(
        "experiments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("test_id", _words, nullable=False),
        sa.Column("chip_id", _words, nullable=False),
        sa.Column("device_id", _words, nullable=False),
        sa.Column("batch_id", _words, nullable=True),
        sa.Column("status", _words, nullable=False),
        sa.Column("device_type", _words, nullable=False),
        sa.Column("file_state", _words, nullable=False),
        sa.Column("features_id", sa.Integer(), nullable=True),
        sa.Column("workflow_id", sa.Integer(), nullable=True),
        sa.Column("completion_percentage", sa.Float(), nullable=True),
        sa.Column("completed_steps", sa.Integer(), nullable=True),
        sa.Column("total_steps", sa.Integer(), nullable=False),
        sa.Column("transfer_steps", sa.Integer(), nullable=False),
        sa.Column("transient_steps", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=True),
        sa.Column("completed_at", sa.DateTime(), nullable=True),
        sa.Column("search_text", _words, nullable=False),
        sa.Column("description", _words, nullable=False),
        sa.Column("test_unit_id", _words, nullable=True),
        sa.Column("duration", sa.Float(), nullable=True),
        sa.Column("temperature", sa.Float(), nullable=True),
        sa.Column("sample_type", _words, nullable=True),
        sa.Column("total_data_points", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "completion_percentage >= 0 AND completion_percentage <= 100",
            name="ck_experiments_share",
        ),
        sa.ForeignKeyConstraint(
            ["features_id"], ["feature_sets.id"], name="fk_experiments_features_id"
        ),
        sa.ForeignKeyConstraint(
            ["workflow_id"], ["workflows.id"], name="fk_experiments_workflow_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_experiments"),
    )
    op.create_index("ix_experiments_batch_id_id", "experiments", ["batch_id", "id"], unique=False)
    op.create_index("ix_experiments_chip_id_id", "experiments", ["chip_id", "id"], unique=False)
    op.create_index(
        "ix_experiments_completed_at_id", "experiments", ["completed_at", "id"], unique=False
    )
    op.create_index(
        "ix_experiments_completion_percentage_id",
        "experiments",
        ["completion_percentage", "id"],
        unique=False,
    )
    op.create_index("ix_experiments_device_id_id", "experiments", ["device_id", "id"], unique=False)
    op.create_index("ix_experiments_status_id", "experiments", ["status", "id"], unique=False)
    op.create_index("ix_experiments_test_id", "experiments", ["test_id"], unique=True)
    op.create_index(
        "ix_experiments_total_steps_id", "experiments", ["total_steps", "id"], unique=False
    )
    op.create_index(
        "ix_scan",
        "experiments",
        [
            "created_at",
            "id",
            "status",
            "device_type",
            "file_state",
            "features_id",
            "workflow_id",
            "completion_percentage",
            "total_steps",
            "transfer_steps",
            "transient_steps",
            "completed_at",
            "chip_id",
            "device_id",
            "batch_id",
            "search_text",
        ],
        unique=False,
    )
    op.create_table(
        "feature_set_members",
        sa.Column("set_id", sa.Integer(), nullable=False),
        sa.Column("name", _words, nullable=False),
        sa.Column("fingerprint", _words, nullable=False),
        sa.ForeignKeyConstraint(
            ["set_id"],
            ["feature_sets.id"],
            name="fk_feature_set_members_set_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("set_id", "name", name="pk_feature_set_members"),
    )
    op.create_index(
        "ix_feature_set_members_name_set_id",
        "feature_set_members",
        ["name", "set_id"],
        unique=False,
    )
    op.create_table(
        "workflow_parameters",
        sa.Column("workflow_id", sa.Integer(), nullable=False),
        sa.Column("key", _words, nullable=False),
        sa.Column("number", sa.Float(), nullable=True),
        sa.Column("text", _words, nullable=True),
        sa.ForeignKeyConstraint(
            ["workflow_id"],
            ["workflows.id"],
            name="fk_workflow_parameters_workflow_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("workflow_id", "key", name="pk_workflow_parameters"),
    )
    op.create_index(
        "ix_workflow_parameters_key_number_workflow_id",
        "workflow_parameters",
        ["key", "number", "workflow_id"],
        unique=False,
    )
    op.create_index(
        "ix_workflow_parameters_key_text_workflow_id",
        "workflow_parameters",
        ["key", "text", "workflow_id"],
        unique=False,
    )
    op.create_table(
        "feature_files",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("set_id", sa.Integer(), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("path", _words, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("config", _words, nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=True),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("source_hash", _words, nullable=True),
        sa.Column("source_size", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name="fk_feature_files_experiment_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["set_id"], ["feature_sets.id"], name="fk_feature_files_set_id"),
        sa.PrimaryKeyConstraint("id", name="pk_feature_files"),
    )
    op.create_index(
        "ix_feature_files_experiment_id_is_current_set_id",
        "feature_files",
        ["experiment_id", "is_current", "set_id"],
        unique=False,
    )
    op.create_index("ix_feature_files_path", "feature_files", ["path"], unique=True)
    op.create_index("ix_feature_files_set_id", "feature_files", ["set_id"], unique=False)
    op.create_table(
        "raw_files",
        sa.Column("experiment_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", _words, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("scanned_ns", sa.BigInteger(), nullable=False),
        sa.Column("content_hash", _words, nullable=True),
        sa.Column("problem", _words, nullable=False),
        sa.Column("legacy", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiments.id"],
            name="fk_raw_files_experiment_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("experiment_id", name="pk_raw_files"),
    )
    op.create_index("ix_raw_files_path", "raw_files", ["path"], unique=False)
