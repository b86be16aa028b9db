-- Events and runs are ULIDs in the type `uuid`: sixteen bytes in the same order, so a time is a prefix of an id. The
-- function `ulid` shows them as people know them, `from_ulid` reads what people copy. Times are milliseconds since
-- 1970, JSON is canonical text and never parsed here. Texts hold U+0000 as U+001A and `0`, U+001A as U+001A and `1`.
--
-- Everything is named with its schema, and every setting that matters is an attribute of a function: a connection has
-- no state, which is what a transaction pooler asks for.
--
-- Every index is paid for by each run, so there is one only where a list or a claim needs it. Columns of users' texts
-- without a bound are indexed by a digest, for an index entry holds 2,704 bytes at the most.

CREATE TABLE callboard.apps (
    name       text COLLATE "C" PRIMARY KEY,
    url        text NOT NULL,          -- empty once the app has been removed
    sdk        text NOT NULL,
    framework  text,
    version    text,
    checksum   text NOT NULL,
    error      text,
    synced_at  bigint NOT NULL,
    breaker    boolean                 -- whether calls go through a circuit breaker, if an operator has said so
);

CREATE TABLE callboard.functions (
    id         uuid PRIMARY KEY,
    app        text COLLATE "C" NOT NULL,
    slug       text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    archived   boolean NOT NULL,
    definition text NOT NULL,
    mode       text NOT NULL DEFAULT 'active', -- what an operator lets it do; registrations leave it as it is
    mode_since bigint,                 -- unless it is active
    UNIQUE (app, slug)
);

CREATE TABLE callboard.events (
    id          uuid PRIMARY KEY,
    ts          bigint NOT NULL,
    received_at bigint NOT NULL,
    has_own_id  boolean NOT NULL,
    external_id text NOT NULL,
    name        text COLLATE "C" NOT NULL,
    body        text NOT NULL
);
CREATE INDEX events_by_name ON callboard.events (name, id);

-- The outbox: events whose functions and waits are still to be found. A table of its own, because setting a flag
-- would write the whole event again.
CREATE TABLE callboard.unrouted (
    event_id uuid PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE callboard.skips (
    event_id    uuid NOT NULL,
    seq         bigint NOT NULL,
    function_id uuid,
    reason      text NOT NULL,
    detail      text NOT NULL,
    PRIMARY KEY (event_id, seq)
);

-- No column that a run's moves change is indexed or part of an index's condition, but for `ended_at` and
-- `unsuccessful`, which its end sets: with room left in the pages, moves touch no index.
CREATE TABLE callboard.runs (
    id               uuid PRIMARY KEY,
    function_id      uuid NOT NULL,
    event_id         uuid NOT NULL,    -- the first one
    idempotency      uuid,             -- digest of the key, as long as the run holds it
    singleton        uuid,             -- the lock that it was created with
    batch_id         uuid,             -- the gathering whose events it has, if they are a batch
    version          bigint NOT NULL,
    function_version bigint NOT NULL,
    started_at       bigint,
    ended_at         bigint,
    request_version  integer NOT NULL,
    priority         integer NOT NULL, -- head start in seconds
    plan_only        boolean NOT NULL,
    unsuccessful     boolean NOT NULL, -- failed or cancelled
    status           text NOT NULL,
    event_name       text NOT NULL,
    step_group       text NOT NULL,
    event_ids        uuid[],           -- all of them, if there are several
    gates            text,             -- what its calls have to pass; none of most
    output           text,
    original_id      uuid,             -- the first run of those of which it is a repetition
    edited           text,             -- a step that an operator gives other arguments
    reporter         text              -- the call that was the last to report steps while it was under way
) WITH (fillfactor = 70);
CREATE INDEX runs_by_function ON callboard.runs (function_id, id);
CREATE INDEX runs_open ON callboard.runs (id) WHERE ended_at IS NULL;
CREATE INDEX runs_unsuccessful ON callboard.runs (id) WHERE unsuccessful;
CREATE UNIQUE INDEX runs_idempotency ON callboard.runs (function_id, idempotency) WHERE idempotency IS NOT NULL;

CREATE INDEX runs_by_original ON callboard.runs (original_id, id) WHERE original_id IS NOT NULL;

-- Which runs an event started, where their ids don't tell: a run's id carries the time of the event it was derived
-- from, so only further events and foreign ids need a row.
CREATE TABLE callboard.run_events (
    event_id uuid NOT NULL,
    run_id   uuid NOT NULL,
    PRIMARY KEY (event_id, run_id)
);

CREATE TABLE callboard.steps (
    run_id     uuid NOT NULL,
    seq        bigint NOT NULL,        -- orders by first report
    started_at bigint NOT NULL,
    until      bigint,                 -- parked, if set
    ended_at   bigint,
    position   bigint,                 -- done, if set; place in the order of completion
    race       boolean NOT NULL,
    failed     boolean,
    op         text NOT NULL,
    step_id    text COLLATE "C" NOT NULL,
    label      text NOT NULL,
    memo       text,
    PRIMARY KEY (run_id, step_id)
) WITH (fillfactor = 90);

-- Functions that runs have put off until their end, and what has become of that.
CREATE TABLE callboard.deferrals (
    run_id   uuid NOT NULL,
    event_id uuid,                     -- which starts the function, when the run has ended
    seq      bigint NOT NULL,          -- orders by first report
    id       text COLLATE "C" NOT NULL,
    name     text NOT NULL,
    function text NOT NULL,            -- its slug
    status   text NOT NULL,
    reason   text,                     -- why it was rejected
    input    text,                     -- while it is pending
    meta     text,
    PRIMARY KEY (run_id, id)
) WITH (fillfactor = 90);

-- By month of the run. A month is dropped as a whole when its runs are gone; see `make_history_partitions` and
-- `drop_history_partitions`. The default partition holds runs of times that no month was made for (an app may choose
-- the time in an event's id), and what outlived its month.
CREATE TABLE callboard.history (
    run_id  uuid NOT NULL,
    seq     bigint NOT NULL,
    at      bigint NOT NULL,
    attempt bigint NOT NULL,
    kind    text NOT NULL,
    step_id text,
    detail  text,
    PRIMARY KEY (run_id, seq)
) PARTITION BY RANGE (run_id);
CREATE TABLE callboard.history_default PARTITION OF callboard.history DEFAULT;

-- What was noted about a run through the API, and what came with its steps' results before: a JSON document of at most 1 MiB.
-- What came since is in the history.
CREATE TABLE callboard.metadata (
    run_id  uuid PRIMARY KEY,
    version bigint NOT NULL,
    body    text NOT NULL
) WITH (fillfactor = 70);

-- Spans that apps have sent of what goes on in their runs, as JSON.
CREATE TABLE callboard.user_spans (
    run_id     uuid NOT NULL,
    started_at bigint NOT NULL,        -- in nanoseconds
    bytes      bigint NOT NULL,        -- of the body
    span_id    text COLLATE "C" NOT NULL,
    body       text NOT NULL,
    PRIMARY KEY (run_id, span_id)
);

-- Jobs come and go with every step.
CREATE TABLE callboard.jobs (
    run_id      uuid NOT NULL,
    function_id uuid NOT NULL,
    due         bigint NOT NULL,
    attempt     bigint NOT NULL,
    priority    integer NOT NULL,
    key         text COLLATE "C" NOT NULL,
    payload     text,
    PRIMARY KEY (run_id, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX jobs_due ON callboard.jobs (due, run_id, key);

CREATE TABLE callboard.waits (
    run_id      uuid NOT NULL,
    function_id uuid NOT NULL,
    name_id     uuid NOT NULL,         -- digest of the name
    path_id     uuid NOT NULL,         -- digest of the path; all zero without one
    lookup_id   uuid NOT NULL,         -- digest of the lookup's key; all zero without one
    created_at  bigint NOT NULL,
    expires_at  bigint NOT NULL,
    key         text COLLATE "C" NOT NULL,
    kind        text NOT NULL,
    name        text NOT NULL,
    path        text,
    lookup_key  text,
    condition   text,
    PRIMARY KEY (run_id, key)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX waits_lookup ON callboard.waits (name_id, path_id, lookup_id, run_id, key);

-- Jobs that were given up, whole: each holds its run. The id says when.
CREATE TABLE callboard.dead_letters (
    run_id      uuid NOT NULL,
    function_id uuid NOT NULL,
    id          uuid NOT NULL,
    due         bigint NOT NULL,
    attempt     bigint NOT NULL,
    priority    integer NOT NULL,
    key         text COLLATE "C" NOT NULL,
    payload     text,
    reason      text NOT NULL,
    PRIMARY KEY (run_id, key)
);
CREATE UNIQUE INDEX dead_letters_by_id ON callboard.dead_letters (id);

-- What rate limits remember, by a digest of function and key, in nanoseconds since 1970. A row whose `next` has passed
-- says no more than none.
CREATE TABLE callboard.rate_limits (
    id   uuid PRIMARY KEY,
    next bigint NOT NULL,
    last bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0);
CREATE INDEX rate_limits_next ON callboard.rate_limits (next);

-- Locks of singletons, by a digest of function and key: each is held by a run that has not ended.
CREATE TABLE callboard.singletons (
    id     uuid PRIMARY KEY,
    run_id uuid NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0);

-- Run slots, by run: held, or waited for. A row says nothing any more once its run has ended.
CREATE TABLE callboard.run_slots (
    run_id      uuid PRIMARY KEY,
    bucket      uuid NOT NULL,         -- who counts together
    function_id uuid NOT NULL,
    created_at  bigint NOT NULL,       -- of the run
    rank        bigint NOT NULL,       -- when its age counts from
    held        boolean NOT NULL,
    rule        text COLLATE "C" NOT NULL,
    key         text NOT NULL          -- for people
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0);
CREATE INDEX run_slots_by_bucket ON callboard.run_slots (bucket, held, rank, run_id);

-- Numbers that operators have put in the place of registered ones, until a time.
CREATE TABLE callboard.overrides (
    function_id uuid NOT NULL,
    slots       bigint NOT NULL,       -- the number: at a time, or in a period
    period      bigint,                -- of a throttle, if it is another one; in milliseconds
    burst       bigint,
    until       bigint NOT NULL,
    rule        text COLLATE "C" NOT NULL,
    PRIMARY KEY (function_id, rule)
);

-- Numbers there is one of. `catalog` rises with every change of an app or function.
CREATE TABLE callboard.counters (
    name  text COLLATE "C" PRIMARY KEY,
    value bigint NOT NULL
);
INSERT INTO callboard.counters (name, value) VALUES ('catalog', 0);

CREATE TABLE callboard.nodes (
    id             uuid PRIMARY KEY,
    started_at     bigint NOT NULL,
    jobs_in_flight bigint NOT NULL,
    seen_at        bigint NOT NULL,
    state          text NOT NULL,
    name           text COLLATE "C" NOT NULL,
    address        text NOT NULL,
    version        text NOT NULL
);

CREATE TABLE callboard.turns (
    name   text COLLATE "C" PRIMARY KEY,
    holder uuid NOT NULL,
    until  bigint NOT NULL
);

-- Connections of workers, those that have ended included: `body` is what people see.
CREATE TABLE callboard.worker_connections (
    id       text COLLATE "C" PRIMARY KEY,
    seen_at  bigint NOT NULL,
    ended_at bigint,
    body     text NOT NULL
) WITH (fillfactor = 70);

-- The keys that operators have made, by their digests.
CREATE TABLE callboard.api_keys (
    id           uuid PRIMARY KEY,
    expires_at   bigint,
    last_used_at bigint,               -- roughly
    revoked_at   bigint,
    name         text NOT NULL,
    scope        text NOT NULL,
    digest       text COLLATE "C" NOT NULL UNIQUE,  -- SHA-256, in hex digits
    hint         text NOT NULL         -- the last characters of the key
) WITH (fillfactor = 70);

-- What an operator has done to many runs. `body` is what people see; how far it has come is in there.
CREATE TABLE callboard.operations (
    id       uuid PRIMARY KEY,
    version  bigint NOT NULL,
    ended_at bigint,
    body     text NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX operations_open ON callboard.operations (id) WHERE ended_at IS NULL;
CREATE INDEX operations_ended ON callboard.operations (ended_at) WHERE ended_at IS NOT NULL;

-- The schedules of crons: since when each is known, and how far its slots have been dealt with. Written with each tick.
CREATE TABLE callboard.crons (
    function_id uuid NOT NULL,
    since       bigint NOT NULL,
    through     bigint NOT NULL,
    ended_at    bigint,                -- set while the function does not have it
    archived    boolean,               -- whether because it is archived
    schedule    text COLLATE "C" NOT NULL,
    PRIMARY KEY (function_id, schedule)
) WITH (fillfactor = 70);
CREATE INDEX crons_ended ON callboard.crons (ended_at) WHERE ended_at IS NOT NULL;

-- Slots that were skipped: those from the first to the last that have no event.
CREATE TABLE callboard.cron_gaps (
    function_id uuid NOT NULL,
    first       bigint NOT NULL,
    last        bigint NOT NULL,
    schedule    text COLLATE "C" NOT NULL,
    reason      text COLLATE "C" NOT NULL,
    PRIMARY KEY (function_id, last, schedule, reason)
);
CREATE INDEX cron_gaps_by_last ON callboard.cron_gaps (last);

-- Gatherings: open collections of events that one run will stand for. A bucket, which is a digest of function, purpose and
-- key, has at most one that events join; those that are closed wait to be fired.
CREATE TABLE callboard.gatherings (
    id          uuid PRIMARY KEY,
    bucket      uuid NOT NULL,
    function_id uuid NOT NULL,
    last_event  uuid NOT NULL,         -- the one that joined last
    opened_at   bigint NOT NULL,
    due         bigint NOT NULL,
    newest      bigint NOT NULL,       -- when the last of its events happened
    bytes       bigint NOT NULL,       -- of the events it holds
    version     bigint NOT NULL,
    count       bigint NOT NULL,       -- events that have joined
    is_open     boolean NOT NULL,
    is_batch    boolean NOT NULL,
    last_stays  boolean NOT NULL,      -- whether the last event is held also when another one takes its place
    due_by      text NOT NULL,
    key         text                   -- for people
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX gatherings_open ON callboard.gatherings (bucket) WHERE is_open;
CREATE INDEX gatherings_due ON callboard.gatherings (due, id);
CREATE INDEX gatherings_by_function ON callboard.gatherings (function_id, id);

CREATE TABLE callboard.gathering_events (
    gathering_id uuid NOT NULL,
    event_id     uuid NOT NULL,
    place        bigint NOT NULL,
    PRIMARY KEY (gathering_id, place)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX gathering_events_by_event ON callboard.gathering_events (event_id, gathering_id);

-- Ids of events, as their senders chose them, that have joined a gathering of a function and must not do so again.
CREATE TABLE callboard.gathered_ids (
    function_id uuid NOT NULL,
    key         uuid NOT NULL,         -- digest of the id
    until       bigint NOT NULL,
    PRIMARY KEY (function_id, key)
) WITH (fillfactor = 90);
CREATE INDEX gathered_ids_until ON callboard.gathered_ids (until);
