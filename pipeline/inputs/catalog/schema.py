"""The tables of a catalog, on SQLite and PostgreSQL alike.

::

    experiments ──1:1── raw_files            what is searched; where the data are
        │  ├── workflow_id ── workflows ──── workflow_parameters
        │  └── sample_id ──── samples ────── sample_values
        └── feature_files ── feature_sets ── feature_set_members
    other_files                              found by a scan, but no experiment of their own
    sample_table                             the devices, as the user has listed them
    imports                                  catalogs of other software that were taken over

Searching 100,000 experiments takes milliseconds because a search reads one index, ``ix_scan``, that
holds every column by which one can filter, in the order of the default.  What many experiments
share (the workflow, the sample, the set of features that they have) is stored once, so that asking
for a parameter or a feature means asking for a few numbers.

Times of the measurement are the instrument's wall clock, as in the raw file.  Times of files are
nanoseconds since 1970 in UTC, as the operating system gives them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

#: Revision of the newest migration; a test holds it to the scripts.
SCHEMA_VERSION = "0003"
#: Stands in the header of every SQLite catalog: "oect".
APPLICATION_ID = 0x6F656374

#: Raw file present at the last scan; vanished; no longer readable; known from results only.
FILE_STATES = ("present", "missing", "unreadable", "unscanned")
#: A second file of an experiment, equal or not; a file that cannot be read; another kind of HDF5.
OTHER_KINDS = ("copy", "conflict", "unreadable", "foreign")

#: Columns by which a result can be sorted, beside ``created_at``, ``test_id`` and ``id``.
SORTED_BY = (
    "completed_at",
    "chip_id",
    "device_id",
    "batch_id",
    "status",
    "completion_percentage",
    "total_steps",
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite compares bytes; with PostgreSQL told to do the same, both sort alike.
_Words = Text().with_variant(Text(collation="C"), "postgresql")


def _words(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, _Words, nullable=nullable)


experiments = Table(
    "experiments",
    metadata,
    Column("id", Integer, primary_key=True),
    _words("test_id"),
    _words("chip_id"),
    _words("device_id"),
    _words("batch_id", nullable=True),
    _words("status"),
    _words("device_type"),
    _words("file_state"),
    # All features computed from what the raw file holds now; None without any.
    Column("features_id", ForeignKey("feature_sets.id"), nullable=True),
    Column("workflow_id", ForeignKey("workflows.id"), nullable=True),
    Column("completion_percentage", Float, nullable=True),
    Column("completed_steps", Integer, nullable=True),
    Column("total_steps", Integer, nullable=False),
    Column("transfer_steps", Integer, nullable=False),
    Column("transient_steps", Integer, nullable=False),
    # Steps of every kind of measurement, as JSON: {"output": 4, "transfer": 1}.
    Column("step_counts", Text, nullable=False, server_default="{}"),
    Column("created_at", DateTime, nullable=True),
    Column("completed_at", DateTime, nullable=True),
    # Chip, test id and description in lower case: where text_search looks.
    _words("search_text"),
    _words("description"),
    _words("test_unit_id", nullable=True),
    Column("duration", Float, nullable=True),
    Column("temperature", Float, nullable=True),
    _words("sample_type", nullable=True),
    Column("total_data_points", BigInteger, nullable=False),
    # What the raw file says of the device, completed from the table of samples.
    Column("sample_id", ForeignKey("samples.id"), nullable=True),
    CheckConstraint("completion_percentage >= 0 AND completion_percentage <= 100", name="share"),
    Index(None, "test_id", unique=True),
    Index(
        "ix_scan",
        "created_at",
        "id",
        "status",
        "device_type",
        "file_state",
        "features_id",
        "workflow_id",
        "sample_id",
        "completion_percentage",
        "total_steps",
        "transfer_steps",
        "transient_steps",
        "step_counts",
        "completed_at",
        "chip_id",
        "device_id",
        "batch_id",
        "search_text",
    ),
    *(Index(None, name, "id") for name in SORTED_BY),
)

raw_files = Table(
    "raw_files",
    metadata,
    Column(
        "experiment_id",
        ForeignKey("experiments.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _words("path"),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("scanned_ns", BigInteger, nullable=False),
    _words("content_hash", nullable=True),
    _words("problem"),
    # What an imported catalog knew and this one has no column for, as JSON.
    Column("legacy", Text, nullable=True),
    # What the file itself says of the device, as JSON.
    Column("sample", Text, nullable=True),
    # Not unique: an experiment whose file has been replaced remembers where it was.
    Index(None, "path"),
)

other_files = Table(
    "other_files",
    metadata,
    Column("path", _Words, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("scanned_ns", BigInteger, nullable=False),
    _words("content_hash", nullable=True),
    _words("kind"),
    _words("reason"),
    _words("test_id", nullable=True),
    Index(None, "test_id"),
)

workflows = Table(
    "workflows",
    metadata,
    Column("id", Integer, primary_key=True),
    _words("digest"),
    # The flattened parameters as JSON, in their order.
    Column("parameters", Text, nullable=False),
    Index(None, "digest", unique=True),
)

workflow_parameters = Table(
    "workflow_parameters",
    metadata,
    Column("workflow_id", ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True),
    Column("key", _Words, primary_key=True),
    Column("number", Float, nullable=True),
    _words("text", nullable=True),
    Index(None, "key", "number", "workflow_id"),
    Index(None, "key", "text", "workflow_id"),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Integer, primary_key=True),
    _words("digest"),
    # All that is known of the device, as JSON.
    Column("document", Text, nullable=False),
    Index(None, "digest", unique=True),
)

sample_values = Table(
    "sample_values",
    metadata,
    Column("sample_id", ForeignKey("samples.id", ondelete="CASCADE"), primary_key=True),
    Column("key", _Words, primary_key=True),
    Column("number", Float, nullable=True),
    _words("text", nullable=True),
    Index(None, "key", "number", "sample_id"),
    Index(None, "key", "text", "sample_id"),
)

sample_table = Table(
    "sample_table",
    metadata,
    # There is one row, or none.
    Column("id", Integer, primary_key=True),
    _words("digest"),
    Column("document", Text, nullable=False),
)

feature_sets = Table(
    "feature_sets",
    metadata,
    Column("id", Integer, primary_key=True),
    _words("digest"),
    Index(None, "digest", unique=True),
)

feature_set_members = Table(
    "feature_set_members",
    metadata,
    Column("set_id", ForeignKey("feature_sets.id", ondelete="CASCADE"), primary_key=True),
    Column("name", _Words, primary_key=True),
    _words("fingerprint"),
    Index(None, "name", "set_id"),
)

feature_files = Table(
    "feature_files",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("experiment_id", ForeignKey("experiments.id", ondelete="CASCADE"), nullable=False),
    Column("set_id", ForeignKey("feature_sets.id"), nullable=False),
    # Whether it was computed from what the raw file holds now.
    Column("is_current", Boolean, nullable=False),
    _words("path"),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    _words("config"),
    # UTC.
    Column("created_at", DateTime, nullable=True),
    Column("n_rows", Integer, nullable=False),
    _words("source_hash", nullable=True),
    Column("source_size", BigInteger, nullable=False),
    # Feature -> status word -> number of values, as JSON.
    Column("counts", Text, nullable=False),
    Index(None, "path", unique=True),
    Index(None, "experiment_id", "is_current", "set_id"),
    Index(None, "set_id"),
)

imports = Table(
    "imports",
    metadata,
    Column("path", _Words, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
)

#: In an order in which references point to what has been copied before.
TABLES = (
    workflows,
    workflow_parameters,
    samples,
    sample_values,
    sample_table,
    feature_sets,
    feature_set_members,
    experiments,
    raw_files,
    other_files,
    feature_files,
    imports,
)
