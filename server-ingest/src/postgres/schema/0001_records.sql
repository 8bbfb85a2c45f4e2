-- Scouter's tables of records and profiles, for plain PostgreSQL 14 and newer.
--
-- Columns have Scouter's names and types, since its drift jobs read and write them. Two things differ. Tables are not partitioned, which
-- would need extensions. And a row's key is the record: its time and `record_key`, a digest of all it says. Scouter's own keys are made of a
-- time and an entity, so two metrics or two evaluations of one microsecond would be one row, and the other lost. Rows that
-- others insert have no `record_key`, and none of them is kept out by another.
--
-- A database that Scouter has made keeps its tables, partitions and rows. It gets the key, and loses the unique constraints that would make
-- two records one.

CREATE TABLE IF NOT EXISTS scouter.drift_entities (
    id SERIAL PRIMARY KEY,
    uid TEXT UNIQUE NOT NULL DEFAULT gen_random_uuid()::text,
    space TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    drift_type TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (space, name, version, drift_type)
);

CREATE TABLE IF NOT EXISTS scouter.drift_profile (
    uid TEXT PRIMARY KEY,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    name TEXT NOT NULL,
    space TEXT NOT NULL,
    version TEXT NOT NULL,
    drift_type TEXT NOT NULL,
    profile JSONB NOT NULL,
    active BOOLEAN NOT NULL DEFAULT true,
    schedule TEXT NOT NULL,
    next_run TIMESTAMPTZ NOT NULL,
    previous_run TIMESTAMPTZ NOT NULL DEFAULT now(),
    status TEXT NOT NULL DEFAULT 'pending',
    processing_started_at TIMESTAMPTZ,
    scouter_version TEXT NOT NULL DEFAULT '',
    major INTEGER NOT NULL DEFAULT 0,
    minor INTEGER NOT NULL DEFAULT 0,
    patch INTEGER NOT NULL DEFAULT 0,
    pre_tag TEXT,
    build_tag TEXT,
    entity_id INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS drift_profile_due ON scouter.drift_profile (next_run) WHERE active;

CREATE TABLE IF NOT EXISTS scouter.spc_drift (
    created_at TIMESTAMPTZ NOT NULL,
    feature TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    archived BOOLEAN NOT NULL DEFAULT false,
    entity_id INTEGER NOT NULL,
    record_key BYTEA
);
ALTER TABLE scouter.spc_drift ADD COLUMN IF NOT EXISTS record_key BYTEA;
CREATE UNIQUE INDEX IF NOT EXISTS spc_drift_record ON scouter.spc_drift (created_at, record_key);
CREATE INDEX IF NOT EXISTS spc_drift_lookup ON scouter.spc_drift (entity_id, created_at);

CREATE TABLE IF NOT EXISTS scouter.psi_drift (
    created_at TIMESTAMPTZ NOT NULL,
    feature TEXT NOT NULL,
    bin_id INTEGER NOT NULL,
    bin_count INTEGER NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    archived BOOLEAN NOT NULL DEFAULT false,
    entity_id INTEGER NOT NULL,
    record_key BYTEA
);
ALTER TABLE scouter.psi_drift ADD COLUMN IF NOT EXISTS record_key BYTEA;
CREATE UNIQUE INDEX IF NOT EXISTS psi_drift_record ON scouter.psi_drift (created_at, record_key);
CREATE INDEX IF NOT EXISTS psi_drift_lookup ON scouter.psi_drift (entity_id, created_at);

CREATE TABLE IF NOT EXISTS scouter.custom_drift (
    created_at TIMESTAMPTZ NOT NULL,
    metric TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    archived BOOLEAN NOT NULL DEFAULT false,
    entity_id INTEGER NOT NULL,
    record_key BYTEA
);
ALTER TABLE scouter.custom_drift ADD COLUMN IF NOT EXISTS record_key BYTEA;
CREATE UNIQUE INDEX IF NOT EXISTS custom_drift_record ON scouter.custom_drift (created_at, record_key);
CREATE INDEX IF NOT EXISTS custom_drift_lookup ON scouter.custom_drift (entity_id, created_at);

CREATE TABLE IF NOT EXISTS scouter.observability_metric (
    created_at TIMESTAMPTZ NOT NULL,
    request_count BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    route_metrics JSONB NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    archived BOOLEAN NOT NULL DEFAULT false,
    entity_id INTEGER NOT NULL,
    record_key BYTEA
);
ALTER TABLE scouter.observability_metric ADD COLUMN IF NOT EXISTS record_key BYTEA;
CREATE UNIQUE INDEX IF NOT EXISTS observability_metric_record ON scouter.observability_metric (created_at, record_key);
CREATE INDEX IF NOT EXISTS observability_metric_lookup ON scouter.observability_metric (entity_id, created_at);

CREATE TABLE IF NOT EXISTS scouter.drift_alert (
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    entity_name TEXT NOT NULL,
    alert JSONB NOT NULL,
    active BOOLEAN NOT NULL DEFAULT true,
    id SERIAL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    entity_id INTEGER NOT NULL,
    PRIMARY KEY (id, created_at)
);
CREATE INDEX IF NOT EXISTS drift_alert_lookup ON scouter.drift_alert (entity_id, created_at);

CREATE SEQUENCE IF NOT EXISTS scouter.agent_eval_record_id_seq;
CREATE TABLE IF NOT EXISTS scouter.agent_eval_record (
    id BIGINT NOT NULL DEFAULT nextval('scouter.agent_eval_record_id_seq') PRIMARY KEY,
    created_at TIMESTAMPTZ NOT NULL,
    scheduled_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    uid TEXT NOT NULL,
    entity_id INTEGER NOT NULL,
    context JSONB NOT NULL,
    updated_at TIMESTAMPTZ,
    status TEXT NOT NULL DEFAULT 'pending',
    processing_started_at TIMESTAMPTZ,
    processing_ended_at TIMESTAMPTZ,
    processing_duration INTEGER,
    record_id TEXT NOT NULL DEFAULT '',
    session_id TEXT NOT NULL DEFAULT '',
    retry_count INTEGER NOT NULL DEFAULT 0,
    archived BOOLEAN NOT NULL DEFAULT false,
    trace_id BYTEA CHECK (octet_length(trace_id) = 16),
    tags TEXT[] NOT NULL DEFAULT '{}',
    record_source TEXT NOT NULL DEFAULT 'user',
    record_key BYTEA
);
ALTER TABLE scouter.agent_eval_record ADD COLUMN IF NOT EXISTS record_key BYTEA;
CREATE UNIQUE INDEX IF NOT EXISTS agent_eval_record_record ON scouter.agent_eval_record (created_at, record_key);
CREATE INDEX IF NOT EXISTS agent_eval_record_lookup ON scouter.agent_eval_record (entity_id, created_at);
CREATE INDEX IF NOT EXISTS agent_eval_record_uid ON scouter.agent_eval_record (uid);
CREATE INDEX IF NOT EXISTS agent_eval_record_trace ON scouter.agent_eval_record (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS agent_eval_record_waiting ON scouter.agent_eval_record (scheduled_at) WHERE status = 'pending';

CREATE SEQUENCE IF NOT EXISTS scouter.agent_eval_workflow_id_seq;
CREATE TABLE IF NOT EXISTS scouter.agent_eval_workflow (
    id BIGINT NOT NULL DEFAULT nextval('scouter.agent_eval_workflow_id_seq'),
    created_at TIMESTAMPTZ NOT NULL,
    record_uid TEXT NOT NULL,
    entity_id INTEGER NOT NULL REFERENCES scouter.drift_entities (id) ON DELETE CASCADE,
    total_tasks INTEGER NOT NULL,
    passed_tasks INTEGER NOT NULL,
    failed_tasks INTEGER NOT NULL,
    pass_rate DOUBLE PRECISION NOT NULL,
    duration_ms BIGINT,
    execution_plan JSONB NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    archived BOOLEAN NOT NULL DEFAULT false,
    record_key BYTEA
);
ALTER TABLE scouter.agent_eval_workflow ADD COLUMN IF NOT EXISTS record_key BYTEA;
CREATE UNIQUE INDEX IF NOT EXISTS agent_eval_workflow_record ON scouter.agent_eval_workflow (created_at, record_key);
ALTER TABLE scouter.agent_eval_workflow ALTER COLUMN id SET DEFAULT nextval('scouter.agent_eval_workflow_id_seq');
CREATE INDEX IF NOT EXISTS agent_eval_workflow_lookup ON scouter.agent_eval_workflow (entity_id, created_at);

CREATE TABLE IF NOT EXISTS scouter.agent_eval_task (
    created_at TIMESTAMPTZ NOT NULL,
    start_time TIMESTAMPTZ NOT NULL,
    end_time TIMESTAMPTZ,
    record_uid TEXT NOT NULL,
    entity_id INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    task_type TEXT NOT NULL,
    passed BOOLEAN NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    assertion JSONB NOT NULL,
    operator TEXT NOT NULL,
    expected JSONB NOT NULL,
    actual JSONB NOT NULL,
    message TEXT,
    condition BOOLEAN NOT NULL DEFAULT false,
    stage INTEGER NOT NULL DEFAULT 0,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    archived BOOLEAN NOT NULL DEFAULT false,
    record_key BYTEA
);
ALTER TABLE scouter.agent_eval_task ADD COLUMN IF NOT EXISTS record_key BYTEA;
CREATE UNIQUE INDEX IF NOT EXISTS agent_eval_task_record ON scouter.agent_eval_task (created_at, record_key);
CREATE INDEX IF NOT EXISTS agent_eval_task_lookup ON scouter.agent_eval_task (entity_id, created_at);
CREATE INDEX IF NOT EXISTS agent_eval_task_of_record ON scouter.agent_eval_task (record_uid);

CREATE TABLE IF NOT EXISTS scouter.tags (
    entity_type TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
-- Of the digest, since a tag may be longer than a row of an index.
CREATE UNIQUE INDEX IF NOT EXISTS tags_tag ON scouter.tags (entity_type, md5(entity_id || E'\n' || key || E'\n' || value));
CREATE INDEX IF NOT EXISTS tags_of_entity ON scouter.tags USING hash (entity_id);

CREATE TABLE IF NOT EXISTS scouter.trace_baggage (
    created_at TIMESTAMPTZ NOT NULL,
    trace_id BYTEA NOT NULL CHECK (octet_length(trace_id) = 16),
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS trace_baggage_member
    ON scouter.trace_baggage (trace_id, created_at, md5(scope || E'\n' || key || E'\n' || value));

CREATE TABLE IF NOT EXISTS scouter.trace_entities (
    trace_id BYTEA NOT NULL CHECK (octet_length(trace_id) = 16),
    entity_uid BYTEA NOT NULL CHECK (octet_length(entity_uid) = 16),
    tagged_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (entity_uid, tagged_at, trace_id)
);
CREATE INDEX IF NOT EXISTS trace_entities_of_trace ON scouter.trace_entities (trace_id);

DO $$
DECLARE
    found RECORD;
BEGIN
    FOR found IN
        SELECT conrelid::regclass AS relation, conname FROM pg_constraint
        WHERE contype = 'u' AND conparentid = 0 AND conrelid = ANY (ARRAY['scouter.spc_drift', 'scouter.psi_drift', 'scouter.custom_drift',
            'scouter.observability_metric', 'scouter.agent_eval_record', 'scouter.agent_eval_workflow', 'scouter.agent_eval_task']::regclass[])
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.relation, found.conname);
    END LOOP;
END $$;

-- Records that PostgreSQL cannot hold, such as a count above 32 bits: whole, as protobuf, with the reason.
CREATE TABLE IF NOT EXISTS scouter.refused_record (
    log_id TEXT NOT NULL,
    position BIGINT NOT NULL,
    record_key BYTEA NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    record BYTEA NOT NULL,
    refused_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (log_id, position, record_key)
);
