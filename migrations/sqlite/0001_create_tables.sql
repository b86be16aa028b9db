-- Ids are ULIDs or UUIDs as text, times are milliseconds since 1970, JSON is canonical text.
--
-- Tables are clustered by their key (WITHOUT ROWID): what belongs to a run lies side by side, and a row costs one
-- b-tree. Every further index is paid for by each run, so there is one only where a list or a claim needs it.

CREATE TABLE apps (
    name       TEXT PRIMARY KEY,
    url        TEXT NOT NULL,          -- empty once the app has been removed
    sdk        TEXT NOT NULL,
    framework  TEXT,
    version    TEXT,
    checksum   TEXT NOT NULL,
    error      TEXT,
    synced_at  INTEGER NOT NULL,
    breaker    INTEGER                 -- whether calls go through a circuit breaker, if an operator has said so
) WITHOUT ROWID;

CREATE TABLE functions (
    id         TEXT PRIMARY KEY,
    app        TEXT NOT NULL,
    slug       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    archived   INTEGER NOT NULL,
    definition TEXT NOT NULL,
    mode       TEXT NOT NULL DEFAULT 'active', -- what an operator lets it do; registrations leave it as it is
    mode_since INTEGER,                -- unless it is active
    UNIQUE (app, slug)
) WITHOUT ROWID;

CREATE TABLE events (
    id          TEXT PRIMARY KEY,
    external_id TEXT NOT NULL,
    has_own_id  INTEGER NOT NULL,
    name        TEXT NOT NULL,
    ts          INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    body        TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX events_by_name ON events (name, id);

-- The outbox: events whose functions and waits are still to be found. A table of its own, because setting a flag
-- would write the whole event again.
CREATE TABLE unrouted (
    event_id TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE skips (
    event_id    TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    function_id TEXT,
    reason      TEXT NOT NULL,
    detail      TEXT NOT NULL,
    PRIMARY KEY (event_id, seq)
) WITHOUT ROWID;

CREATE TABLE runs (
    id               TEXT PRIMARY KEY,
    function_id      TEXT NOT NULL,
    function_version INTEGER NOT NULL,
    status           TEXT NOT NULL,
    version          INTEGER NOT NULL,
    event_id         TEXT NOT NULL,    -- the first one
    event_ids        TEXT,             -- all of them, if there are several
    event_name       TEXT NOT NULL,
    request_version  INTEGER NOT NULL,
    plan_only        INTEGER NOT NULL,
    step_group       TEXT NOT NULL,
    priority         INTEGER NOT NULL, -- head start in seconds
    idempotency      TEXT,             -- as long as it holds the key
    singleton        TEXT,             -- the lock that it was created with
    batch_id         TEXT,             -- the gathering whose events it has, if they are a batch
    started_at       INTEGER,
    ended_at         INTEGER,
    gates            TEXT,             -- what its calls have to pass; none of most
    output           TEXT,
    original_id      TEXT,             -- the first run of those of which it is a repetition
    edited           TEXT,             -- a step that an operator gives other arguments
    reporter         TEXT              -- the call that was the last to report steps while it was under way
) WITHOUT ROWID;
CREATE INDEX runs_by_function ON runs (function_id, id);
CREATE INDEX runs_open ON runs (id) WHERE ended_at IS NULL;
CREATE INDEX runs_failed ON runs (id) WHERE status IN ('failed', 'cancelled');
CREATE UNIQUE INDEX runs_idempotency ON runs (function_id, idempotency) WHERE idempotency IS NOT NULL;

CREATE INDEX runs_by_original ON runs (original_id, id) WHERE original_id IS NOT NULL;

-- Which runs an event started, where their ids don't tell: a run's id carries the time of the event it was derived
-- from, so only further events and foreign ids need a row.
CREATE TABLE run_events (
    event_id TEXT NOT NULL,
    run_id   TEXT NOT NULL,
    PRIMARY KEY (event_id, run_id)
) WITHOUT ROWID;

CREATE TABLE steps (
    run_id     TEXT NOT NULL,
    step_id    TEXT NOT NULL,
    seq        INTEGER NOT NULL,       -- orders by first report
    op         TEXT NOT NULL,
    label      TEXT NOT NULL,
    race       INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    until      INTEGER,                -- parked, if set
    position   INTEGER,                -- done, if set; place in the order of completion
    failed     INTEGER,
    ended_at   INTEGER,
    memo       TEXT,
    PRIMARY KEY (run_id, step_id)
) WITHOUT ROWID;

-- Functions that runs have put off until their end, and what has become of that.
CREATE TABLE deferrals (
    run_id   TEXT NOT NULL,
    id       TEXT NOT NULL,
    seq      INTEGER NOT NULL,         -- orders by first report
    name     TEXT NOT NULL,
    function TEXT NOT NULL,            -- its slug
    status   TEXT NOT NULL,
    reason   TEXT,                     -- why it was rejected
    input    TEXT,                     -- while it is pending
    meta     TEXT,
    event_id TEXT,                     -- which starts the function, when the run has ended
    PRIMARY KEY (run_id, id)
) WITHOUT ROWID;

CREATE TABLE history (
    run_id  TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    step_id TEXT,
    attempt INTEGER NOT NULL,
    detail  TEXT,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

-- What was noted about a run through the API, and what came with its steps' results before: a JSON document of at most 1 MiB.
-- What came since is in the history.
CREATE TABLE metadata (
    run_id  TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    body    TEXT NOT NULL
);

-- Spans that apps have sent of what goes on in their runs, as JSON.
CREATE TABLE user_spans (
    run_id     TEXT NOT NULL,
    span_id    TEXT NOT NULL,
    started_at INTEGER NOT NULL,       -- in nanoseconds
    bytes      INTEGER NOT NULL,       -- of the body
    body       TEXT NOT NULL,
    PRIMARY KEY (run_id, span_id)
) WITHOUT ROWID;

CREATE TABLE jobs (
    run_id      TEXT NOT NULL,
    key         TEXT NOT NULL,
    function_id TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    due         INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    payload     TEXT,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
CREATE INDEX jobs_due ON jobs (due, run_id, key);

CREATE TABLE waits (
    run_id      TEXT NOT NULL,
    key         TEXT NOT NULL,
    function_id TEXT NOT NULL,
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    path        TEXT,
    lookup_key  TEXT,
    condition   TEXT,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
CREATE INDEX waits_lookup ON waits (name, path, lookup_key, run_id, key);

-- Jobs that were given up, whole: each holds its run. The id is a ULID and says when.
CREATE TABLE dead_letters (
    run_id      TEXT NOT NULL,
    key         TEXT NOT NULL,
    function_id TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    due         INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    payload     TEXT,
    id          TEXT NOT NULL,
    reason      TEXT NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
CREATE UNIQUE INDEX dead_letters_by_id ON dead_letters (id);

-- What rate limits remember, by a digest of function and key, in nanoseconds since 1970. A row whose `next` has passed
-- says no more than none.
CREATE TABLE rate_limits (
    id   TEXT PRIMARY KEY,
    next INTEGER NOT NULL,
    last INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX rate_limits_next ON rate_limits (next);

-- Locks of singletons, by a digest of function and key: each is held by a run that has not ended.
CREATE TABLE singletons (
    id     TEXT PRIMARY KEY,
    run_id TEXT NOT NULL
) WITHOUT ROWID;

-- Run slots, by run: held, or waited for. A row says nothing any more once its run has ended.
CREATE TABLE run_slots (
    run_id      TEXT PRIMARY KEY,
    bucket      TEXT NOT NULL,         -- who counts together
    function_id TEXT NOT NULL,
    rule        TEXT NOT NULL,
    key         TEXT NOT NULL,         -- for people
    created_at  INTEGER NOT NULL,      -- of the run
    rank        INTEGER NOT NULL,      -- when its age counts from
    held        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX run_slots_by_bucket ON run_slots (bucket, held, rank, run_id);

-- Numbers that operators have put in the place of registered ones, until a time.
CREATE TABLE overrides (
    function_id TEXT NOT NULL,
    rule        TEXT NOT NULL,
    slots       INTEGER NOT NULL,      -- the number: at a time, or in a period
    period      INTEGER,               -- of a throttle, if it is another one; in milliseconds
    burst       INTEGER,
    until       INTEGER NOT NULL,
    PRIMARY KEY (function_id, rule)
) WITHOUT ROWID;

-- Numbers there is one of. `catalog` rises with every change of an app or function.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('catalog', 0);

CREATE TABLE nodes (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL,
    address        TEXT NOT NULL,
    version        TEXT NOT NULL,
    started_at     INTEGER NOT NULL,
    state          TEXT NOT NULL,
    jobs_in_flight INTEGER NOT NULL,
    seen_at        INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE turns (
    name   TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until  INTEGER NOT NULL
) WITHOUT ROWID;

-- Connections of workers, those that have ended included: `body` is what people see.
CREATE TABLE worker_connections (
    id       TEXT PRIMARY KEY,
    seen_at  INTEGER NOT NULL,
    ended_at INTEGER,
    body     TEXT NOT NULL
) WITHOUT ROWID;

-- The keys that operators have made, by their digests.
CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    scope        TEXT NOT NULL,
    digest       TEXT NOT NULL UNIQUE,  -- SHA-256, in hex digits
    hint         TEXT NOT NULL,         -- the last characters of the key
    expires_at   INTEGER,
    last_used_at INTEGER,               -- roughly
    revoked_at   INTEGER
) WITHOUT ROWID;

-- What an operator has done to many runs. `body` is what people see; how far it has come is in there.
CREATE TABLE operations (
    id       TEXT PRIMARY KEY,
    version  INTEGER NOT NULL,
    ended_at INTEGER,
    body     TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX operations_open ON operations (id) WHERE ended_at IS NULL;
CREATE INDEX operations_ended ON operations (ended_at) WHERE ended_at IS NOT NULL;

-- The schedules of crons: since when each is known, and how far its slots have been dealt with. Written with each tick.
CREATE TABLE crons (
    function_id TEXT NOT NULL,
    schedule    TEXT NOT NULL,
    since       INTEGER NOT NULL,
    through     INTEGER NOT NULL,
    ended_at    INTEGER,               -- set while the function does not have it
    archived    INTEGER,               -- whether because it is archived
    PRIMARY KEY (function_id, schedule)
) WITHOUT ROWID;
CREATE INDEX crons_ended ON crons (ended_at) WHERE ended_at IS NOT NULL;

-- Slots that were skipped: those from the first to the last that have no event.
CREATE TABLE cron_gaps (
    function_id TEXT NOT NULL,
    last        INTEGER NOT NULL,
    schedule    TEXT NOT NULL,
    reason      TEXT NOT NULL,
    first       INTEGER NOT NULL,
    PRIMARY KEY (function_id, last, schedule, reason)
) WITHOUT ROWID;
CREATE INDEX cron_gaps_by_last ON cron_gaps (last);

-- Gatherings: open collections of events that one run will stand for. A bucket, which is a digest of function, purpose and
-- key, has at most one that events join; those that are closed wait to be fired.
CREATE TABLE gatherings (
    id          TEXT PRIMARY KEY,
    bucket      TEXT NOT NULL,
    function_id TEXT NOT NULL,
    is_open     INTEGER NOT NULL,
    is_batch    INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    opened_at   INTEGER NOT NULL,
    due         INTEGER NOT NULL,
    due_by      TEXT NOT NULL,
    newest      INTEGER NOT NULL,      -- when the last of its events happened
    count       INTEGER NOT NULL,      -- events that have joined
    bytes       INTEGER NOT NULL,      -- of the events it holds
    last_event  TEXT NOT NULL,         -- the one that joined last
    last_stays  INTEGER NOT NULL,      -- whether it is held also when another one takes its place
    key         TEXT                   -- for people
) WITHOUT ROWID;
CREATE UNIQUE INDEX gatherings_open ON gatherings (bucket) WHERE is_open;
CREATE INDEX gatherings_due ON gatherings (due, id);
CREATE INDEX gatherings_by_function ON gatherings (function_id, id);

CREATE TABLE gathering_events (
    gathering_id TEXT NOT NULL,
    place        INTEGER NOT NULL,
    event_id     TEXT NOT NULL,
    PRIMARY KEY (gathering_id, place)
) WITHOUT ROWID;
CREATE INDEX gathering_events_by_event ON gathering_events (event_id, gathering_id);

-- Ids of events, as their senders chose them, that have joined a gathering of a function and must not do so again.
CREATE TABLE gathered_ids (
    function_id TEXT NOT NULL,
    key         TEXT NOT NULL,
    until       INTEGER NOT NULL,
    PRIMARY KEY (function_id, key)
) WITHOUT ROWID;
CREATE INDEX gathered_ids_until ON gathered_ids (until);
