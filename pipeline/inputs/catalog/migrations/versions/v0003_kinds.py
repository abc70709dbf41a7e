"""Steps of every kind of measurement."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SCANNED = (
    *("created_at", "id", "status", "device_type", "file_state", "features_id", "workflow_id"),
    *("sample_id", "completion_percentage", "total_steps", "transfer_steps", "transient_steps"),
    *("step_counts", "completed_at", "chip_id", "device_id", "batch_id", "search_text"),
)


def upgrade() -> None:
    """Add the counts; files of before have no other kinds than transfer and transient."""
    op.add_column(
        "experiments", sa.Column("step_counts", sa.Text(), nullable=False, server_default="{}")
    )
    experiments = sa.table(
        "experiments",
        *(sa.column(name) for name in ("transfer_steps", "transient_steps", "step_counts")),
    )
    c = experiments.c
    connection = op.get_bind()
    numbers = connection.execute(sa.select(c.transfer_steps, c.transient_steps).distinct()).all()
    for transfer, transient in numbers:
        counts = {"transfer": transfer, "transient": transient}
        document = json.dumps({kind: n for kind, n in counts.items() if n})
        connection.execute(
            sa.update(experiments)
            .where(c.transfer_steps == transfer, c.transient_steps == transient)
            .values(step_counts=document)
        )
    op.drop_index("ix_scan", table_name="experiments")
    op.create_index("ix_scan", "experiments", list(_SCANNED), unique=False)
