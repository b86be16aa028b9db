-- Ids for people, partitions of the history, and the commit of a batch.

-- A ULID as people know it: 130 bits, five to a letter.
CREATE FUNCTION callboard.ulid(id uuid) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', substring(bits FROM place FOR 5)::int + 1, 1), ''
        ORDER BY place)
    FROM (SELECT B'00' || ('x' || replace(id::text, '-', ''))::bit(128) AS bits) AS whole,
        generate_series(1, 126, 5) AS place
$$;

-- The other way round.
CREATE FUNCTION callboard.from_ulid(id text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT string_agg(to_hex(substring(bits FROM place FOR 4)::int), '' ORDER BY place)::uuid
    FROM (SELECT string_agg((strpos('0123456789ABCDEFGHJKMNPQRSTVWXYZ', substr(upper(id), place, 1)) - 1)::bit(5)::text,
                '' ORDER BY place)::varbit AS bits
            FROM generate_series(1, 26) AS place) AS whole,
        generate_series(3, 127, 4) AS place
$$;

-- The smallest id of an instant, in milliseconds.
CREATE FUNCTION callboard.first_at(millis bigint) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(greatest(millis, 0)), 12, '0') || repeat('0', 20))::uuid
$$;

-- The smallest id of the month that begins `months` after the one of now.
CREATE FUNCTION callboard.first_of_month(months integer) RETURNS uuid LANGUAGE sql STABLE STRICT AS $$
    SELECT callboard.first_at((extract(epoch FROM (date_trunc('month', now() AT TIME ZONE 'UTC')
        + make_interval(months => months))) * 1000)::bigint)
$$;

-- Makes the partitions for this month and those `ahead`. A new one takes over what the default partition holds of its
-- month before it is attached, so there is no instant without these rows.
CREATE FUNCTION callboard.make_history_partitions(ahead integer) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    first uuid;
    next uuid;
    name text;
BEGIN
    FOR month IN 0..ahead LOOP
        first := callboard.first_of_month(month);
        next := callboard.first_of_month(month + 1);
        name := 'history_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC')
            + make_interval(months => month), 'YYYYMM');
        CONTINUE WHEN to_regclass('callboard.' || name) IS NOT NULL;
        -- Two instances at once: the second one waits and finds it made. It asks the catalog, not the session's cache
        -- of it, which knows nothing of that yet.
        PERFORM pg_advisory_xact_lock(hashtextextended('callboard.history', 0));
        CONTINUE WHEN EXISTS (
            SELECT 1 FROM pg_class WHERE relname = name AND relnamespace = 'callboard'::regnamespace);
        LOCK TABLE callboard.history_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE callboard.%I (LIKE callboard.history INCLUDING ALL)', name);
        EXECUTE format('WITH moved AS (DELETE FROM callboard.history_default WHERE run_id >= %L AND run_id < %L
            RETURNING *) INSERT INTO callboard.%I SELECT * FROM moved', first, next, name);
        EXECUTE format('ALTER TABLE callboard.history ATTACH PARTITION callboard.%I FOR VALUES FROM (%L) TO (%L)',
            name, first, next);
    END LOOP;
END
$$;

-- Drops the partitions of months that end before `bound` and whose runs are gone, but for at most `few`: the rows of
-- those move to the default partition. Answers how many were dropped.
CREATE FUNCTION callboard.drop_history_partitions(bound uuid, few integer) RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' SET enable_seqscan = off AS $$
DECLARE
    part record;
    dropped integer := 0;
    survivors uuid[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('callboard.history', 0)) THEN
        RETURN 0;
    END IF;
    FOR part IN
        SELECT relname AS name, bounds[1]::uuid AS first, bounds[2]::uuid AS next
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid,
            regexp_match(pg_get_expr(relpartbound, inhrelid), 'FROM \(''(.*)''\) TO \(''(.*)''\)') AS bounds
        WHERE inhparent = 'callboard.history'::regclass AND bounds[2]::uuid <= bound
        ORDER BY relname
    LOOP
        SELECT array_agg(id) INTO survivors
        FROM (SELECT id FROM callboard.runs WHERE id >= part.first AND id < part.next LIMIT few + 1) AS found;
        CONTINUE WHEN cardinality(survivors) > few;
        EXECUTE format('ALTER TABLE callboard.history DETACH PARTITION callboard.%I', part.name);
        -- Asked again, now that nobody can add to it.
        EXECUTE format('INSERT INTO callboard.history SELECT old.* FROM callboard.%I AS old
            WHERE run_id IN (SELECT id FROM callboard.runs WHERE id >= %L AND id < %L)', part.name, part.first, part.next);
        EXECUTE format('DROP TABLE callboard.%I', part.name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

-- The commit of a batch: `claim`, then `effect`, in one statement; see `src/store/postgres/commit/mod.rs`. Parameters
-- are the columns of the rows to write, one array each; rows come sorted by key, so that two batches of different
-- instances meet in the same order. The planner settings keep the plans right while tables are empty or have grown
-- since they were analysed: rows are always looked up one by one through an index.

-- The joins of a batch, part of `claim`: decided one by one as `engine::gathering::admit` does it, and written once for each
-- gathering. Those of events or with ids in `barred` are left out.
CREATE FUNCTION callboard.gather(
    barred uuid[],
    join_id uuid[], join_bucket uuid[], join_function uuid[], join_event uuid[], join_at bigint[], join_ts bigint[],
    join_bytes bigint[], join_batch boolean[], join_quiet bigint[], join_longest bigint[], join_size bigint[],
    join_stays boolean[], join_own uuid[], join_own_text text[], join_until bigint[], join_key text[],
    join_skip_seq bigint[],
    OUT duplicates uuid[], OUT late uuid[], OUT replaced uuid[], OUT replaced_by uuid[], OUT next_due bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    capacity CONSTANT bigint := 10485760;
    fresh uuid[];
    asked record;
    -- The gathering at hand: that of the bucket, which was stored before, or comes new.
    this_bucket uuid;
    this_id uuid;
    this_open boolean;
    this_stored boolean;
    this_changed boolean;
    this_opened bigint;
    this_due bigint;
    this_by text;
    this_newest bigint;
    this_count bigint;
    this_bytes bigint;
    this_event uuid;
    this_stays boolean;
    -- Whether the last event's row is not written yet.
    this_pending boolean;
    fits boolean;
    limit_at bigint;
    put_id uuid[] := '{}';
    put_stored boolean[] := '{}';
    put_open boolean[] := '{}';
    put_joined boolean[] := '{}';
    put_opened bigint[] := '{}';
    put_due bigint[] := '{}';
    put_by text[] := '{}';
    put_newest bigint[] := '{}';
    put_count bigint[] := '{}';
    put_bytes bigint[] := '{}';
    put_event uuid[] := '{}';
    put_stays boolean[] := '{}';
    member_of uuid[] := '{}';
    member_place bigint[] := '{}';
    member_event uuid[] := '{}';
    gone_from uuid[] := '{}';
    gone_event uuid[] := '{}';
    skip_event uuid[] := '{}';
    skip_seq bigint[] := '{}';
    skip_function uuid[] := '{}';
    skip_detail text[] := '{}';
BEGIN
    late := '{}';
    replaced := '{}';
    replaced_by := '{}';
    -- An id that has joined within the window does not join again. Who takes it at this moment is waited for.
    WITH put AS (
        INSERT INTO callboard.gathered_ids AS old (function_id, key, until)
        SELECT new.function_id, new.key, new.until
        FROM unnest(join_id, join_function, join_event, join_own, join_until)
            AS new (id, function_id, event_id, key, until)
        WHERE new.key IS NOT NULL AND new.event_id <> ALL (barred) AND new.id <> ALL (barred)
        ORDER BY new.function_id, new.key
        ON CONFLICT (function_id, key) DO UPDATE SET until = excluded.until
            WHERE old.until <= excluded.until - 86400000
        RETURNING old.function_id, old.key
    )
    SELECT coalesce(array_agg(new.id), '{}') INTO duplicates
    FROM unnest(join_id, join_function, join_event, join_own) AS new (id, function_id, event_id, key)
    WHERE new.key IS NOT NULL AND new.event_id <> ALL (barred) AND new.id <> ALL (barred)
        AND NOT EXISTS (SELECT 1 FROM put WHERE put.function_id = new.function_id AND put.key = new.key);
    IF cardinality(duplicates) > 0 THEN
        INSERT INTO callboard.skips (event_id, seq, function_id, reason, detail)
        SELECT new.event_id, new.seq, new.function_id, 'duplicate',
            'an event with the id `' || new.own || '` has been gathered within the last 24 hours'
        FROM unnest(join_id, join_event, join_skip_seq, join_function, join_own_text)
            AS new (id, event_id, seq, function_id, own)
        WHERE new.id = ANY (duplicates)
        ON CONFLICT DO NOTHING;
        barred := barred || duplicates;
    END IF;

    -- The first join of a bucket that has none open opens one; the others are left as they are, and locked: also where the
    -- condition of DO UPDATE is false.
    WITH put AS (
        INSERT INTO callboard.gatherings AS old (id, bucket, function_id, last_event, opened_at, due, newest, bytes,
            version, count, is_open, is_batch, last_stays, due_by, key)
        SELECT DISTINCT ON (new.bucket) new.id, new.bucket, new.function_id, new.event_id, new.at,
            new.at + least(new.quiet, new.longest), new.ts, new.bytes, 0, 1, true, new.batch, new.stays,
            CASE WHEN new.batch OR new.longest < new.quiet THEN 'timeout' ELSE 'period' END, new.key
        FROM unnest(join_id, join_bucket, join_function, join_event, join_at, join_ts, join_bytes, join_batch, join_quiet,
                join_longest, join_stays, join_key) WITH ORDINALITY
            AS new (id, bucket, function_id, event_id, at, ts, bytes, batch, quiet, longest, stays, key, place)
        WHERE new.event_id <> ALL (barred) AND new.id <> ALL (barred)
        ORDER BY new.bucket, new.place
        ON CONFLICT (bucket) WHERE is_open DO UPDATE SET version = old.version WHERE false RETURNING old.id
    )
    SELECT coalesce(array_agg(put.id), '{}') INTO fresh FROM put;

    -- One more round than there are joins: the last gathering is put as well.
    FOR asked IN
        SELECT new.*, held.id AS held_id, held.opened_at, held.due, held.due_by, held.newest, held.count,
            held.bytes AS held_bytes, held.last_event, held.last_stays
        FROM unnest(join_id, join_bucket, join_function, join_event, join_at, join_ts, join_bytes, join_batch, join_quiet,
                join_longest, join_size, join_stays, join_skip_seq) WITH ORDINALITY
            AS new (id, bucket, function_id, event_id, at, ts, bytes, batch, quiet, longest, size, stays, seq, place)
            CROSS JOIN LATERAL (SELECT old.* FROM callboard.gatherings AS old
                WHERE old.is_open AND old.bucket = new.bucket OFFSET 0) AS held
        WHERE new.event_id <> ALL (barred) AND new.id <> ALL (barred)
        UNION ALL
        SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
            NULL, NULL, NULL, NULL, NULL
        ORDER BY place NULLS LAST
    LOOP
        IF this_bucket IS NOT NULL AND this_bucket IS DISTINCT FROM asked.bucket AND this_id IS NOT NULL THEN
            IF this_changed THEN
                put_id := put_id || this_id;
                put_stored := put_stored || this_stored;
                put_open := put_open || this_open;
                put_joined := put_joined || true;
                put_opened := put_opened || this_opened;
                put_due := put_due || this_due;
                put_by := put_by || this_by;
                put_newest := put_newest || this_newest;
                put_count := put_count || this_count;
                put_bytes := put_bytes || this_bytes;
                put_event := put_event || this_event;
                put_stays := put_stays || this_stays;
            END IF;
            IF this_pending THEN
                member_of := member_of || this_id;
                member_place := member_place || this_count - 1;
                member_event := member_event || this_event;
            END IF;
            next_due := least(next_due, this_due);
        END IF;
        EXIT WHEN asked.id IS NULL;
        IF this_bucket IS DISTINCT FROM asked.bucket THEN
            this_bucket := asked.bucket;
            this_id := asked.held_id;
            this_open := true;
            this_stored := true;
            this_changed := false;
            this_opened := asked.opened_at;
            this_due := asked.due;
            this_by := asked.due_by;
            this_newest := asked.newest;
            this_count := asked.count;
            this_bytes := asked.held_bytes;
            this_event := asked.last_event;
            this_stays := asked.last_stays;
            this_pending := asked.id = ANY (fresh);
            IF this_pending THEN
                IF asked.batch AND (this_count >= asked.size OR this_bytes >= capacity) THEN
                    this_changed := true;
                    this_open := false;
                    this_due := asked.at;
                    this_by := 'full';
                END IF;
                CONTINUE;
            END IF;
        END IF;
        fits := this_open AND asked.at < this_due
            AND (NOT asked.batch OR this_count < asked.size AND this_bytes + asked.bytes <= capacity);
        IF fits AND NOT asked.batch AND asked.ts < this_newest THEN
            late := late || asked.id;
            skip_event := skip_event || asked.event_id;
            skip_seq := skip_seq || asked.seq;
            skip_function := skip_function || asked.function_id;
            skip_detail := skip_detail || 'an event that happened later had come before it (debounce)'::text;
            CONTINUE;
        END IF;
        IF fits AND NOT asked.batch THEN
            replaced := replaced || this_event;
            replaced_by := replaced_by || asked.id;
            skip_event := skip_event || this_event;
            skip_seq := skip_seq || asked.seq;
            skip_function := skip_function || asked.function_id;
            skip_detail := skip_detail || ('event ' || callboard.ulid(asked.event_id) || ' has taken its place (debounce)');
            IF NOT this_pending AND NOT this_stays THEN
                gone_from := gone_from || this_id;
                gone_event := gone_event || this_event;
            END IF;
        END IF;
        -- The row of the event before: of a debounce it is written only if the event stays.
        IF this_pending AND (NOT fits OR asked.batch OR this_stays) THEN
            member_of := member_of || this_id;
            member_place := member_place || this_count - 1;
            member_event := member_event || this_event;
        END IF;
        IF NOT fits THEN
            IF this_open AND asked.batch AND asked.at < this_due THEN
                this_due := asked.at;
                this_by := 'full';
            END IF;
            put_id := put_id || this_id;
            put_stored := put_stored || this_stored;
            put_open := put_open || false;
            put_joined := put_joined || this_changed;
            put_opened := put_opened || this_opened;
            put_due := put_due || this_due;
            put_by := put_by || this_by;
            put_newest := put_newest || this_newest;
            put_count := put_count || this_count;
            put_bytes := put_bytes || this_bytes;
            put_event := put_event || this_event;
            put_stays := put_stays || this_stays;
            next_due := least(next_due, this_due);
            this_id := asked.id;
            this_open := true;
            this_stored := false;
            this_opened := asked.at;
            this_newest := asked.ts;
            this_count := 0;
            this_bytes := 0;
        END IF;
        this_changed := true;
        this_pending := true;
        this_count := this_count + 1;
        this_event := asked.event_id;
        this_stays := asked.stays;
        IF asked.batch THEN
            this_due := CASE WHEN fits THEN least(this_due, asked.at + asked.quiet) ELSE asked.at + asked.quiet END;
            this_by := 'timeout';
            this_newest := greatest(this_newest, asked.ts);
            this_bytes := this_bytes + asked.bytes;
            IF this_count >= asked.size OR this_bytes >= capacity THEN
                this_open := false;
                this_due := asked.at;
                this_by := 'full';
            END IF;
        ELSE
            this_opened := least(this_opened, asked.at);
            limit_at := this_opened + asked.longest;
            this_due := least(asked.at + asked.quiet, limit_at);
            this_by := CASE WHEN limit_at < asked.at + asked.quiet THEN 'timeout' ELSE 'period' END;
            this_newest := asked.ts;
            this_bytes := asked.bytes;
        END IF;
    END LOOP;

    -- Those that are closed before those that take their place.
    UPDATE callboard.gatherings AS old SET is_open = new.is_open,
        version = old.version + CASE WHEN new.joined THEN 1 ELSE 0 END, opened_at = new.opened_at, due = new.due,
        due_by = new.due_by, newest = new.newest, count = new.count, bytes = new.bytes, last_event = new.last_event,
        last_stays = new.last_stays
    FROM unnest(put_id, put_stored, put_open, put_joined, put_opened, put_due, put_by, put_newest, put_count, put_bytes,
            put_event, put_stays)
        AS new (id, stored, is_open, joined, opened_at, due, due_by, newest, count, bytes, last_event, last_stays)
    WHERE old.id = new.id AND new.stored;
    INSERT INTO callboard.gatherings (id, bucket, function_id, last_event, opened_at, due, newest, bytes, version, count,
        is_open, is_batch, last_stays, due_by, key)
    SELECT new.id, born.bucket, born.function_id, new.last_event, new.opened_at, new.due, new.newest, new.bytes, 0,
        new.count, new.is_open, born.batch, new.last_stays, new.due_by, born.key
    FROM unnest(put_id, put_stored, put_open, put_opened, put_due, put_by, put_newest, put_count, put_bytes, put_event,
            put_stays)
        AS new (id, stored, is_open, opened_at, due, due_by, newest, count, bytes, last_event, last_stays)
        JOIN unnest(join_id, join_bucket, join_function, join_batch, join_key)
            AS born (id, bucket, function_id, batch, key) ON born.id = new.id
    WHERE NOT new.stored;
    IF cardinality(gone_event) > 0 THEN
        DELETE FROM callboard.gathering_events AS held USING unnest(gone_from, gone_event) AS old (gathering_id, event_id)
        WHERE held.event_id = old.event_id AND held.gathering_id = old.gathering_id;
    END IF;
    INSERT INTO callboard.gathering_events (gathering_id, place, event_id)
    SELECT * FROM unnest(member_of, member_place, member_event);
    IF cardinality(skip_event) > 0 THEN
        INSERT INTO callboard.skips (event_id, seq, function_id, reason, detail)
        SELECT new.event_id, new.seq, new.function_id, 'debounced', new.detail
        FROM unnest(skip_event, skip_seq, skip_function, skip_detail) AS new (event_id, seq, function_id, detail)
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;

-- Who was first? Every claim is an insert, update or delete that finds its row only if nobody was faster, so that taking
-- it and checking it are one; whoever is second waits for the first one's transaction. What a row keeps anyway is
-- written along with it.
CREATE FUNCTION callboard.claim(
    -- Runs that move on.
    move_run uuid[], move_expected bigint[], move_status text[], move_started bigint[], move_request_version integer[],
    move_plan_only boolean[], move_group text[], move_reporter text[], move_output text[], move_ended bigint[],
    move_unsuccessful boolean[],
    -- Events that are routed, with the revision of the catalog that they were matched against.
    route_event uuid[], route_catalog bigint[],
    -- Events that come in or, with `event_by`, are emitted by a run that moves on or a gathering that ends.
    event_id uuid[], event_external text[], event_own boolean[], event_name text[], event_name_id uuid[],
    event_ts bigint[], event_received bigint[], event_body text[], event_by uuid[], event_heard boolean[],
    event_catalog bigint[],
    -- New runs, with the event or gathering whose write they belong to.
    new_id uuid[], new_function uuid[], new_status text[], new_version bigint[], new_event uuid[], new_events text[],
    new_event_name text[], new_request_version integer[], new_plan_only boolean[], new_group text[], new_priority integer[],
    new_started bigint[], new_gates text[], new_key uuid[], new_key_text text[], new_key_since uuid[], new_owner uuid[],
    new_skip_seq bigint[], new_singleton uuid[], new_original uuid[], new_edited text[],
    new_batch uuid[],
    -- Rate limits that new runs have to pass, by bucket and in order; times in nanoseconds.
    limit_id uuid[], limit_run uuid[], limit_at bigint[], limit_gap bigint[], limit_tolerance bigint[],
    limit_owner uuid[], limit_function uuid[], limit_skip_seq bigint[], limit_reason text[], limit_detail text[],
    -- Events that tell whoever invoked them of runs that did not pass.
    refusal_run uuid[], refusal_id uuid[], refusal_name text[], refusal_at bigint[], refusal_body text[],
    refusal_of_lock boolean[],
    -- Locks that runs give up by moving on.
    freed_id uuid[], freed_run uuid[],
    -- Locks that new runs are to hold, by lock and in order, with the job for a holder that has to give way.
    lock_id uuid[], lock_run uuid[], lock_evicts boolean[], lock_owner uuid[], lock_function uuid[],
    lock_skip_seq bigint[], lock_detail text[], lock_due bigint[], lock_priority integer[], lock_payload text[],
    -- Waits that are taken, with the event that takes them.
    take_run uuid[], take_key text[], take_owner uuid[],
    -- Gatherings that end.
    fire_id uuid[], fire_bucket uuid[], fire_version bigint[], fire_catalog bigint[],
    -- Events that join gatherings, by bucket and in order. `join_id` is the gathering's if the event opens it; `join_quiet`
    -- is the period of a debounce or the timeout of a batch, `join_longest` the timeout of a debounce.
    join_id uuid[], join_bucket uuid[], join_function uuid[], join_event uuid[], join_at bigint[], join_ts bigint[],
    join_bytes bigint[], join_batch boolean[], join_quiet bigint[], join_longest bigint[], join_size bigint[],
    join_stays boolean[], join_own uuid[], join_own_text text[], join_until bigint[], join_key text[],
    join_skip_seq bigint[],
    -- Advances that have lost.
    OUT lost_runs uuid[],
    -- Accepts, routes and, by their gatherings, fires that have lost, those against an older catalog among them.
    OUT lost_events uuid[], OUT outdated uuid[],
    -- Runs of other accepts and routes that were not created: all of them, and those left out for a reason that is
    -- recorded.
    OUT left_out uuid[], OUT duplicates uuid[], OUT limited uuid[], OUT locked_out uuid[],
    -- Runs that have lost their lock, and those that hold it now.
    OUT evicted uuid[], OUT evicted_by uuid[],
    -- All runs of which nothing is to be written.
    OUT dropped uuid[],
    -- Waits that were over, or are those of a route that has lost.
    OUT missed_run uuid[], OUT missed_key text[],
    -- Events that are new and have to be routed.
    OUT unrouted uuid[],
    -- Joins that were left out for their key, and those that came too late; the others for their rate limit.
    OUT unjoined uuid[], OUT late_joins uuid[],
    -- Events whose place in a debounce was taken, and the joins that took it.
    OUT replaced uuid[], OUT replaced_by uuid[],
    -- When the first of the gatherings is due that were joined.
    OUT next_due bigint
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
    won uuid[];
    keys text[];
    some_known boolean := false;
    newest bigint;
    known uuid[] := '{}';
    fresh uuid[];
    asked record;
    opens bigint[];
    level_next bigint;
    level_last bigint;
    spent_id uuid[] := '{}';
    spent_next bigint[] := '{}';
    spent_last bigint[] := '{}';
    told uuid[];
    bucket_id uuid;
    holder uuid;
    holders uuid[];
    losers uuid[] := '{}';
    late uuid[] := '{}';
    kept_id uuid[] := '{}';
    kept_run uuid[] := '{}';
    joined record;
BEGIN
    lost_runs := '{}';
    lost_events := '{}';
    outdated := '{}';
    left_out := '{}';
    duplicates := '{}';
    limited := '{}';
    locked_out := '{}';
    evicted := '{}';
    evicted_by := '{}';
    dropped := '{}';
    missed_run := '{}';
    missed_key := '{}';
    unrouted := '{}';
    unjoined := '{}';
    late_joins := '{}';
    replaced := '{}';
    replaced_by := '{}';

    IF cardinality(move_run) > 0 THEN
        WITH moved AS (
            UPDATE callboard.runs SET version = runs.version + 1,
                status = coalesce(new.status, runs.status),
                started_at = coalesce(new.started_at, runs.started_at),
                request_version = coalesce(new.request_version, runs.request_version),
                plan_only = coalesce(new.plan_only, runs.plan_only),
                step_group = coalesce(new.step_group, runs.step_group),
                reporter = coalesce(new.reporter, runs.reporter),
                output = coalesce(new.output, runs.output),
                ended_at = coalesce(new.ended_at, runs.ended_at),
                unsuccessful = coalesce(new.unsuccessful, runs.unsuccessful)
            FROM unnest(move_run, move_expected, move_status, move_started, move_request_version, move_plan_only,
                    move_group, move_reporter, move_output, move_ended, move_unsuccessful)
                AS new (id, version, status, started_at, request_version, plan_only, step_group, reporter, output,
                    ended_at, unsuccessful)
            WHERE runs.id = new.id AND runs.version = new.version
            RETURNING runs.id
        )
        SELECT coalesce(array_agg(id), '{}') INTO won FROM moved;
        IF cardinality(won) < cardinality(move_run) THEN
            lost_runs := ARRAY(SELECT id FROM unnest(move_run) AS id WHERE id <> ALL (won));
            dropped := lost_runs;
        END IF;
    END IF;

    IF cardinality(freed_id) + cardinality(lock_id) > 0 THEN
        -- In one order, or two batches that each give up what the other one wants would wait for each other.
        PERFORM FROM callboard.singletons WHERE id = ANY (freed_id || lock_id) ORDER BY id FOR UPDATE;
        DELETE FROM callboard.singletons USING unnest(freed_id, freed_run) AS old (id, run_id)
        WHERE singletons.id = old.id AND singletons.run_id = old.run_id AND old.run_id <> ALL (lost_runs);
    END IF;

    IF cardinality(event_id) + cardinality(route_event) + cardinality(fire_id) > 0 THEN
        -- Read after whoever changed the catalog before this statement began. A change at this moment comes after it.
        SELECT value INTO STRICT newest FROM callboard.counters WHERE name = 'catalog';
        outdated := ARRAY(
            SELECT matched.id
            FROM unnest(event_id || route_event || fire_id, event_catalog || route_catalog || fire_catalog)
                AS matched (id, revision)
            WHERE matched.revision < newest);
        IF cardinality(outdated) > 0 THEN
            lost_events := outdated;
            route_event := ARRAY(SELECT id FROM unnest(route_event) AS id WHERE id <> ALL (outdated));
        END IF;
    END IF;

    IF cardinality(route_event) > 0 THEN
        WITH gone AS (DELETE FROM callboard.unrouted AS old WHERE old.event_id = ANY (route_event) RETURNING old.event_id)
        SELECT coalesce(array_agg(gone.event_id), '{}') INTO won FROM gone;
        IF cardinality(won) < cardinality(route_event) THEN
            lost_events := lost_events || ARRAY(SELECT id FROM unnest(route_event) AS id WHERE id <> ALL (won));
        END IF;
    END IF;

    IF cardinality(fire_id) + cardinality(join_id) > 0 THEN
        -- In one order, or two batches that each join what the other one fires would wait for each other.
        PERFORM FROM callboard.gatherings WHERE is_open AND bucket = ANY (fire_bucket || join_bucket)
        ORDER BY bucket FOR UPDATE;
    END IF;

    IF cardinality(fire_id) > 0 THEN
        WITH gone AS (
            DELETE FROM callboard.gatherings USING unnest(fire_id, fire_version) AS old (id, version)
            WHERE gatherings.id = old.id AND gatherings.version = old.version AND old.id <> ALL (outdated)
            RETURNING gatherings.id
        )
        SELECT coalesce(array_agg(id), '{}') INTO won FROM gone;
        lost_events := lost_events || ARRAY(SELECT id FROM unnest(fire_id) AS id WHERE id <> ALL (won || outdated));
        DELETE FROM callboard.gathering_events WHERE gathering_id = ANY (won);
    END IF;

    IF cardinality(event_id) > 0 THEN
        WITH put AS (
            INSERT INTO callboard.events (id, external_id, has_own_id, name, ts, received_at, body)
            SELECT new.id, new.external_id, new.has_own_id, new.name, new.ts, new.received_at, new.body
            FROM unnest(event_id, event_external, event_own, event_name, event_ts, event_received, event_body, event_by)
                AS new (id, external_id, has_own_id, name, ts, received_at, body, by_run)
            WHERE (new.by_run IS NULL OR new.by_run <> ALL (dropped || lost_events)) AND new.id <> ALL (outdated)
            ON CONFLICT (id) DO NOTHING RETURNING events.id
        )
        SELECT coalesce(array_agg(id), '{}') INTO won FROM put;
        some_known := cardinality(won) < cardinality(event_id);
        IF some_known THEN
            lost_events := lost_events || ARRAY(
                SELECT new.id FROM unnest(event_id, event_by) AS new (id, by_run)
                WHERE new.by_run IS NULL AND new.id <> ALL (won));
        END IF;
        -- Waits that this batch sets come later; an event that meets one set before it in the batch is `heard`.
        WITH put AS (
            INSERT INTO callboard.unrouted AS old (event_id)
            SELECT new.id FROM unnest(event_id, event_name_id, event_heard) AS new (id, name_id, heard)
            WHERE (NOT some_known OR new.id = ANY (won))
                -- No EXISTS: it may be answered by reading all waits into a hash table.
                AND (new.heard OR (SELECT true FROM callboard.waits WHERE waits.name_id = new.name_id LIMIT 1))
            ON CONFLICT DO NOTHING RETURNING old.event_id
        )
        SELECT coalesce(array_agg(put.event_id), '{}') INTO unrouted FROM put;
    END IF;

    IF cardinality(new_id) + cardinality(join_id) > 0 THEN
        IF EXISTS (SELECT 1 FROM unnest(new_key) AS key WHERE key IS NOT NULL) THEN
            -- Whoever has held an idempotency key for longer than the window loses it to the next one.
            UPDATE callboard.runs SET idempotency = NULL
            FROM unnest(new_function, new_key, new_key_since, new_owner) AS new (function_id, key, since, owner)
            WHERE runs.function_id = new.function_id AND runs.idempotency = new.key AND runs.id < new.since
                AND new.owner <> ALL (lost_events);
        END IF;
        IF cardinality(limit_id) + cardinality(lock_id) > 0 THEN
            -- What is not new spends nothing and wants no lock.
            known := ARRAY(
                SELECT new.id FROM unnest(new_id, new_function, new_key, new_owner) AS new (id, function_id, key, owner)
                WHERE new.owner = ANY (lost_events)
                    OR (SELECT true FROM callboard.runs WHERE runs.id = new.id LIMIT 1)
                    OR (SELECT true FROM callboard.runs
                        WHERE runs.function_id = new.function_id AND runs.idempotency = new.key LIMIT 1))
                || ARRAY(
                SELECT new.id FROM unnest(join_id, join_event) AS new (id, event) WHERE new.event = ANY (lost_events));
        END IF;
        IF cardinality(limit_id) > 0 THEN
            -- The first claim on a bucket that remembers nothing passes. The other buckets are left as they are, and
            -- locked: also where the condition of DO UPDATE is false.
            WITH put AS (
                INSERT INTO callboard.rate_limits AS old (id, next, last)
                SELECT DISTINCT ON (new.id) new.id, new.at + new.gap, new.at
                FROM unnest(limit_id, limit_run, limit_at, limit_gap) WITH ORDINALITY AS new (id, run_id, at, gap, place)
                WHERE new.run_id <> ALL (known)
                ORDER BY new.id, new.place
                ON CONFLICT (id) DO UPDATE SET next = old.next WHERE false RETURNING old.id
            )
            SELECT coalesce(array_agg(put.id), '{}') INTO fresh FROM put;
            opens := array_fill(NULL::bigint, ARRAY[cardinality(limit_id)]);
            -- As `engine::rate_limit` does it, claim by claim.
            IF cardinality(fresh) < cardinality(limit_id) THEN
                FOR asked IN
                    SELECT new.id, new.run_id, new.at, new.gap, new.tolerance, new.place, bucket.next, bucket.last
                    FROM unnest(limit_id, limit_run, limit_at, limit_gap, limit_tolerance) WITH ORDINALITY
                            AS new (id, run_id, at, gap, tolerance, place)
                        CROSS JOIN LATERAL (SELECT old.next, old.last FROM callboard.rate_limits AS old
                            WHERE old.id = new.id OFFSET 0) AS bucket
                    WHERE new.run_id <> ALL (known)
                    ORDER BY new.place
                LOOP
                    IF bucket_id IS DISTINCT FROM asked.id THEN
                        bucket_id := asked.id;
                        level_next := asked.next;
                        level_last := asked.last;
                        CONTINUE WHEN asked.id = ANY (fresh);
                    END IF;
                    level_next := least(level_next, level_last + asked.gap + asked.tolerance);
                    IF level_next - asked.tolerance > asked.at THEN
                        limited := limited || asked.run_id;
                        opens[asked.place] := (level_next - asked.tolerance + 999999) / 1000000;
                        CONTINUE;
                    END IF;
                    level_next := greatest(level_next, asked.at) + asked.gap;
                    level_last := greatest(level_last, asked.at);
                    IF cardinality(spent_id) = 0 OR spent_id[cardinality(spent_id)] <> asked.id THEN
                        spent_id := spent_id || asked.id;
                        spent_next := spent_next || level_next;
                        spent_last := spent_last || level_last;
                    ELSE
                        spent_next[cardinality(spent_id)] := level_next;
                        spent_last[cardinality(spent_id)] := level_last;
                    END IF;
                END LOOP;
            END IF;
            IF cardinality(spent_id) > 0 THEN
                UPDATE callboard.rate_limits SET next = new.next, last = new.last
                FROM unnest(spent_id, spent_next, spent_last) AS new (id, next, last)
                WHERE rate_limits.id = new.id;
            END IF;
            IF cardinality(limited) > 0 THEN
                INSERT INTO callboard.skips (event_id, seq, function_id, reason, detail)
                SELECT new.owner, new.seq, new.function_id, new.reason, new.detail
                    || to_char(to_timestamp(new.opens / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
                FROM unnest(limit_owner, limit_skip_seq, limit_function, limit_reason, limit_detail, opens)
                    AS new (owner, seq, function_id, reason, detail, opens)
                WHERE new.opens IS NOT NULL
                ON CONFLICT DO NOTHING;
                WITH put AS (
                    INSERT INTO callboard.events (id, external_id, has_own_id, name, ts, received_at, body)
                    SELECT new.id, callboard.ulid(new.id), false, new.name, new.at, new.at, new.body
                    FROM unnest(refusal_run, refusal_id, refusal_name, refusal_at, refusal_body, refusal_of_lock)
                        AS new (run_id, id, name, at, body, of_lock)
                    WHERE NOT new.of_lock AND new.run_id = ANY (limited)
                    ON CONFLICT (id) DO NOTHING RETURNING events.id
                ), noted AS (
                    INSERT INTO callboard.unrouted AS old (event_id) SELECT put.id FROM put
                    ON CONFLICT DO NOTHING RETURNING old.event_id
                )
                SELECT coalesce(array_agg(noted.event_id), '{}') INTO told FROM noted;
                unrouted := unrouted || told;
                losers := limited;
            END IF;
        END IF;
        IF cardinality(lock_id) > 0 THEN
            -- Who finds the lock held need not come into being first.
            holders := array_fill(NULL::uuid, ARRAY[cardinality(lock_id)]);
            -- But where a run of this batch takes the lock, that one will hold it.
            fresh := ARRAY(SELECT new.id FROM unnest(lock_id, lock_evicts) AS new (id, evicts) WHERE new.evicts);
            FOR asked IN
                SELECT new.run_id, new.place, held.run_id AS holder
                FROM unnest(lock_id, lock_run) WITH ORDINALITY AS new (id, run_id, place)
                    CROSS JOIN LATERAL (SELECT old.run_id FROM callboard.singletons AS old
                        WHERE old.id = new.id OFFSET 0) AS held
                WHERE new.id <> ALL (fresh) AND new.run_id <> ALL (known || losers)
            LOOP
                locked_out := locked_out || asked.run_id;
                holders[asked.place] := asked.holder;
            END LOOP;
            losers := losers || locked_out;
        END IF;
        WITH put AS (
            INSERT INTO callboard.runs (id, function_id, function_version, status, version, event_id, event_ids,
                event_name, request_version, priority, plan_only, unsuccessful, step_group, idempotency, started_at,
                singleton, gates, original_id, edited, batch_id)
            SELECT new.id, new.function_id,
                coalesce((SELECT functions.version FROM callboard.functions WHERE functions.id = new.function_id), 0),
                new.status, new.version, new.event_id, new.event_ids::uuid[], new.event_name, new.request_version,
                new.priority, new.plan_only, false, new.step_group, new.key, new.started_at, new.singleton,
                new.gates, new.original, new.edited, new.batch_id
            FROM unnest(new_id, new_function, new_status, new_version, new_event, new_events, new_event_name,
                    new_request_version, new_plan_only, new_group, new_priority, new_started, new_gates, new_key,
                    new_owner, new_singleton, new_original, new_edited, new_batch)
                AS new (id, function_id, status, version, event_id, event_ids, event_name, request_version, plan_only,
                    step_group, priority, started_at, gates, key, owner, singleton, original, edited,
                    batch_id)
            WHERE new.owner <> ALL (lost_events) AND new.id <> ALL (losers)
            ON CONFLICT DO NOTHING RETURNING runs.id
        )
        SELECT coalesce(array_agg(id), '{}') INTO won FROM put;
        IF cardinality(won) < cardinality(new_id) THEN
            dropped := dropped || ARRAY(SELECT id FROM unnest(new_id) AS id WHERE id <> ALL (won));
            left_out := ARRAY(
                SELECT new.id FROM unnest(new_id, new_owner) AS new (id, owner)
                WHERE new.owner <> ALL (lost_events) AND new.id <> ALL (won));
            -- A run that does not exist now was left out for its key.
            duplicates := ARRAY(
                SELECT new.id FROM unnest(new_id, new_key) AS new (id, key)
                WHERE new.key IS NOT NULL AND new.id = ANY (left_out) AND new.id <> ALL (losers)
                    AND (SELECT true FROM callboard.runs WHERE runs.id = new.id LIMIT 1) IS NULL);
            INSERT INTO callboard.skips (event_id, seq, function_id, reason, detail)
            SELECT new.event_id, new.seq, new.function_id, 'duplicate',
                'an event with the id `' || new.key || '` has started a run within the last 24 hours'
            FROM unnest(new_id, new_event, new_skip_seq, new_function, new_key_text)
                AS new (id, event_id, seq, function_id, key)
            WHERE new.id = ANY (duplicates)
            ON CONFLICT DO NOTHING;
        END IF;
        IF cardinality(lock_id) > cardinality(locked_out) THEN
            -- As `engine::lock` does it, claim by claim.
            WITH put AS (
                INSERT INTO callboard.singletons AS old (id, run_id)
                SELECT DISTINCT ON (new.id) new.id, new.run_id
                FROM unnest(lock_id, lock_run) WITH ORDINALITY AS new (id, run_id, place)
                WHERE new.run_id = ANY (won)
                ORDER BY new.id, new.place
                ON CONFLICT (id) DO UPDATE SET run_id = old.run_id WHERE false RETURNING old.id
            )
            SELECT coalesce(array_agg(put.id), '{}') INTO fresh FROM put;
            IF cardinality(fresh) < cardinality(lock_id) THEN
                bucket_id := NULL;
                FOR asked IN
                    SELECT new.id, new.run_id, new.evicts, new.place, held.run_id AS holder
                    FROM unnest(lock_id, lock_run, lock_evicts) WITH ORDINALITY AS new (id, run_id, evicts, place)
                        CROSS JOIN LATERAL (SELECT old.run_id FROM callboard.singletons AS old
                            WHERE old.id = new.id OFFSET 0) AS held
                    WHERE new.run_id = ANY (won)
                    ORDER BY new.place
                LOOP
                    IF bucket_id IS DISTINCT FROM asked.id THEN
                        bucket_id := asked.id;
                        holder := asked.holder;
                        CONTINUE WHEN asked.id = ANY (fresh);
                    END IF;
                    IF NOT asked.evicts THEN
                        late := late || asked.run_id;
                        holders[asked.place] := holder;
                        CONTINUE;
                    END IF;
                    evicted := evicted || holder;
                    evicted_by := evicted_by || asked.run_id;
                    holder := asked.run_id;
                    IF cardinality(kept_id) = 0 OR kept_id[cardinality(kept_id)] <> asked.id THEN
                        kept_id := kept_id || asked.id;
                        kept_run := kept_run || holder;
                    ELSE
                        kept_run[cardinality(kept_id)] := holder;
                    END IF;
                END LOOP;
            END IF;
            IF cardinality(kept_id) > 0 THEN
                UPDATE callboard.singletons SET run_id = new.run_id FROM unnest(kept_id, kept_run) AS new (id, run_id)
                WHERE singletons.id = new.id;
                INSERT INTO callboard.jobs (run_id, key, function_id, attempt, due, priority, payload)
                SELECT gone.run_id, 'cancel', new.function_id, 0, new.due, new.priority, new.payload
                FROM unnest(evicted, evicted_by) AS gone (run_id, by_run)
                    JOIN unnest(lock_run, lock_function, lock_due, lock_priority, lock_payload)
                        AS new (run_id, function_id, due, priority, payload) ON new.run_id = gone.by_run
                ON CONFLICT (run_id, key) DO UPDATE SET function_id = excluded.function_id,
                    attempt = excluded.attempt, due = excluded.due, priority = excluded.priority,
                    payload = excluded.payload;
            END IF;
            IF cardinality(late) > 0 THEN
                DELETE FROM callboard.runs WHERE id = ANY (late);
                dropped := dropped || late;
                left_out := left_out || late;
                locked_out := locked_out || late;
            END IF;
        END IF;
        IF cardinality(locked_out) > 0 THEN
            INSERT INTO callboard.skips (event_id, seq, function_id, reason, detail)
            SELECT new.owner, new.seq, new.function_id, 'singleton', new.detail || callboard.ulid(new.holder)
            FROM unnest(lock_owner, lock_skip_seq, lock_function, lock_detail, holders)
                AS new (owner, seq, function_id, detail, holder)
            WHERE new.holder IS NOT NULL
            ON CONFLICT DO NOTHING;
            WITH put AS (
                INSERT INTO callboard.events (id, external_id, has_own_id, name, ts, received_at, body)
                SELECT new.id, callboard.ulid(new.id), false, new.name, new.at, new.at, new.body
                FROM unnest(refusal_run, refusal_id, refusal_name, refusal_at, refusal_body, refusal_of_lock)
                    AS new (run_id, id, name, at, body, of_lock)
                WHERE new.of_lock AND new.run_id = ANY (locked_out)
                ON CONFLICT (id) DO NOTHING RETURNING events.id
            ), noted AS (
                INSERT INTO callboard.unrouted AS old (event_id) SELECT put.id FROM put
                ON CONFLICT DO NOTHING RETURNING old.event_id
            )
            SELECT coalesce(array_agg(noted.event_id), '{}') INTO told FROM noted;
            unrouted := unrouted || told;
        END IF;
    END IF;

    IF cardinality(join_id) > 0 THEN
        SELECT * INTO STRICT joined FROM callboard.gather(lost_events || limited, join_id, join_bucket, join_function,
            join_event, join_at, join_ts, join_bytes, join_batch, join_quiet, join_longest, join_size, join_stays,
            join_own, join_own_text, join_until, join_key, join_skip_seq);
        unjoined := joined.duplicates;
        late_joins := joined.late;
        replaced := joined.replaced;
        replaced_by := joined.replaced_by;
        next_due := joined.next_due;
    END IF;

    IF cardinality(take_run) > 0 THEN
        WITH gone AS (
            DELETE FROM callboard.waits USING unnest(take_run, take_key, take_owner) AS old (run_id, key, owner)
            WHERE waits.run_id = old.run_id AND waits.key = old.key AND old.owner <> ALL (lost_events)
            RETURNING waits.run_id, waits.key
        )
        SELECT coalesce(array_agg(run_id), '{}'), coalesce(array_agg(key), '{}') INTO won, keys FROM gone;
        IF cardinality(won) < cardinality(take_run) THEN
            SELECT array_agg(old.run_id), array_agg(old.key) INTO missed_run, missed_key
            FROM unnest(take_run, take_key) AS old (run_id, key)
            WHERE NOT EXISTS (
                SELECT 1 FROM unnest(won, keys) AS gone (run_id, key)
                WHERE gone.run_id = old.run_id AND gone.key = old.key);
        END IF;
    END IF;
END
$$;

-- What follows for the writes that have won. Effects can't be lost; where two of them meet, the later one counts, except
-- that a step's recorded result stays.
CREATE FUNCTION callboard.effect(
    dropped uuid[], missed_run uuid[], missed_key text[], lost_events uuid[],
    -- Runs that have ended, whose jobs, waits and dead letters go.
    ended uuid[],
    gone_job_run uuid[], gone_job_key text[],
    gone_wait_run uuid[], gone_wait_key text[],
    gone_letter_run uuid[], gone_letter_key text[],
    -- Signals that are taken over from whoever waits for them.
    signal_run uuid[], signal_name_id uuid[], signal_lock bigint[],
    -- With the key of the wait whose taking a job tells of.
    job_run uuid[], job_key text[], job_function uuid[], job_attempt bigint[], job_due bigint[], job_priority integer[],
    job_payload text[], job_take text[],
    wait_run uuid[], wait_key text[], wait_function uuid[], wait_kind text[], wait_name text[], wait_name_id uuid[],
    wait_path text[], wait_path_id uuid[], wait_lookup text[], wait_lookup_id uuid[], wait_condition text[],
    wait_created bigint[], wait_expires bigint[],
    step_run uuid[], step_id text[], step_seq bigint[], step_op text[], step_label text[], step_race boolean[],
    step_started bigint[], step_until bigint[], step_position bigint[], step_failed boolean[], step_ended bigint[],
    step_memo text[],
    line_run uuid[], line_seq bigint[], line_at bigint[], line_kind text[], line_step text[], line_attempt bigint[],
    line_detail text[],
    -- With the event or gathering whose write they belong to.
    skip_owner uuid[], skip_event uuid[], skip_seq bigint[], skip_function uuid[], skip_reason text[],
    skip_detail text[],
    further_event uuid[], further_run uuid[],
    letter_run uuid[], letter_key text[], letter_function uuid[], letter_attempt bigint[], letter_due bigint[],
    letter_priority integer[], letter_payload text[], letter_id uuid[], letter_reason text[],
    deferral_run uuid[], deferral_id text[], deferral_seq bigint[], deferral_name text[], deferral_function text[],
    deferral_status text[], deferral_reason text[], deferral_input text[], deferral_meta text[], deferral_event uuid[]
) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off SET jit = off AS $$
BEGIN
    IF cardinality(ended) > 0 THEN
        IF cardinality(dropped) > 0 THEN
            ended := ARRAY(SELECT id FROM unnest(ended) AS id WHERE id <> ALL (dropped));
        END IF;
        -- Waits before jobs: who takes a wait of this run at this moment, and so adds a job, is waited for here, and
        -- the job is seen by the next statement.
        DELETE FROM callboard.waits WHERE run_id = ANY (ended);
        DELETE FROM callboard.jobs WHERE run_id = ANY (ended);
        DELETE FROM callboard.dead_letters WHERE run_id = ANY (ended);
    END IF;
    IF cardinality(gone_wait_run) > 0 THEN
        DELETE FROM callboard.waits USING unnest(gone_wait_run, gone_wait_key) AS old (run_id, key)
        WHERE waits.run_id = old.run_id AND waits.key = old.key AND old.run_id <> ALL (dropped);
    END IF;
    IF cardinality(gone_job_run) > 0 THEN
        DELETE FROM callboard.jobs USING unnest(gone_job_run, gone_job_key) AS old (run_id, key)
        WHERE jobs.run_id = old.run_id AND jobs.key = old.key AND old.run_id <> ALL (dropped);
    END IF;
    IF cardinality(gone_letter_run) > 0 THEN
        DELETE FROM callboard.dead_letters USING unnest(gone_letter_run, gone_letter_key) AS old (run_id, key)
        WHERE dead_letters.run_id = old.run_id AND dead_letters.key = old.key AND old.run_id <> ALL (dropped);
    END IF;
    IF cardinality(signal_run) > 0 THEN
        -- One waiter for each signal: who sets a wait for the same one at this moment is waited for.
        PERFORM pg_advisory_xact_lock(lock) FROM unnest(signal_lock) AS lock;
        DELETE FROM callboard.waits USING unnest(signal_run, signal_name_id) AS new (run_id, name_id)
        WHERE waits.name_id = new.name_id AND waits.kind = 'signal' AND new.run_id <> ALL (dropped);
    END IF;
    IF cardinality(job_run) > 0 THEN
        INSERT INTO callboard.jobs (run_id, key, function_id, attempt, due, priority, payload)
        SELECT new.run_id, new.key, new.function_id, new.attempt, new.due, new.priority, new.payload
        FROM unnest(job_run, job_key, job_function, job_attempt, job_due, job_priority, job_payload, job_take)
            AS new (run_id, key, function_id, attempt, due, priority, payload, take)
        WHERE new.run_id <> ALL (dropped) AND (new.take IS NULL OR NOT EXISTS (
            SELECT 1 FROM unnest(missed_run, missed_key) AS missed (run_id, key)
            WHERE missed.run_id = new.run_id AND missed.key = new.take))
        ON CONFLICT (run_id, key) DO UPDATE SET function_id = excluded.function_id, attempt = excluded.attempt,
            due = excluded.due, priority = excluded.priority, payload = excluded.payload;
    END IF;
    IF cardinality(wait_run) > 0 THEN
        INSERT INTO callboard.waits (run_id, key, function_id, kind, name, name_id, path, path_id, lookup_key, lookup_id,
            condition, created_at, expires_at)
        SELECT new.* FROM unnest(wait_run, wait_key, wait_function, wait_kind, wait_name, wait_name_id, wait_path,
                wait_path_id, wait_lookup, wait_lookup_id, wait_condition, wait_created, wait_expires)
            AS new (run_id, key, function_id, kind, name, name_id, path, path_id, lookup_key, lookup_id, condition,
                created_at, expires_at)
        WHERE new.run_id <> ALL (dropped)
        ON CONFLICT (run_id, key) DO UPDATE SET function_id = excluded.function_id, kind = excluded.kind,
            name = excluded.name, name_id = excluded.name_id, path = excluded.path, path_id = excluded.path_id,
            lookup_key = excluded.lookup_key, lookup_id = excluded.lookup_id, condition = excluded.condition,
            created_at = excluded.created_at, expires_at = excluded.expires_at;
    END IF;
    IF cardinality(step_run) > 0 THEN
        -- `position` is set when a step is done, and a step that is done stays as it is.
        INSERT INTO callboard.steps (run_id, step_id, seq, op, label, race, started_at, until, position, failed,
            ended_at, memo)
        SELECT new.* FROM unnest(step_run, step_id, step_seq, step_op, step_label, step_race, step_started, step_until,
                step_position, step_failed, step_ended, step_memo)
            AS new (run_id, step_id, seq, op, label, race, started_at, until, position, failed, ended_at, memo)
        WHERE new.run_id <> ALL (dropped)
        ON CONFLICT ON CONSTRAINT steps_pkey DO UPDATE SET op = excluded.op, label = excluded.label,
            race = excluded.race, started_at = excluded.started_at, until = excluded.until,
            position = excluded.position, failed = excluded.failed, ended_at = excluded.ended_at, memo = excluded.memo
        WHERE steps.position IS NULL;
    END IF;
    IF cardinality(line_run) > 0 THEN
        -- Only a run that was deleted and has come again meets lines of its own.
        INSERT INTO callboard.history (run_id, seq, at, kind, step_id, attempt, detail)
        SELECT new.* FROM unnest(line_run, line_seq, line_at, line_kind, line_step, line_attempt, line_detail)
            AS new (run_id, seq, at, kind, step_id, attempt, detail)
        WHERE new.run_id <> ALL (dropped)
        ON CONFLICT ON CONSTRAINT history_pkey DO UPDATE SET at = excluded.at, kind = excluded.kind,
            step_id = excluded.step_id, attempt = excluded.attempt, detail = excluded.detail;
    END IF;
    IF cardinality(skip_event) > 0 THEN
        INSERT INTO callboard.skips (event_id, seq, function_id, reason, detail)
        SELECT new.event_id, new.seq, new.function_id, new.reason, new.detail
        FROM unnest(skip_owner, skip_event, skip_seq, skip_function, skip_reason, skip_detail)
            AS new (owner, event_id, seq, function_id, reason, detail)
        WHERE new.owner <> ALL (lost_events)
        ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(further_event) > 0 THEN
        INSERT INTO callboard.run_events (event_id, run_id)
        SELECT new.* FROM unnest(further_event, further_run) AS new (event_id, run_id)
        WHERE new.run_id <> ALL (dropped)
        ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(letter_run) > 0 THEN
        INSERT INTO callboard.dead_letters (run_id, key, function_id, attempt, due, priority, payload, id, reason)
        SELECT new.* FROM unnest(letter_run, letter_key, letter_function, letter_attempt, letter_due, letter_priority,
                letter_payload, letter_id, letter_reason)
            AS new (run_id, key, function_id, attempt, due, priority, payload, id, reason)
        WHERE new.run_id <> ALL (dropped)
        ON CONFLICT ON CONSTRAINT dead_letters_pkey DO UPDATE SET function_id = excluded.function_id,
            attempt = excluded.attempt, due = excluded.due, priority = excluded.priority, payload = excluded.payload,
            id = excluded.id, reason = excluded.reason;
    END IF;
    IF cardinality(deferral_run) > 0 THEN
        INSERT INTO callboard.deferrals (run_id, id, seq, name, function, status, reason, input, meta, event_id)
        SELECT new.* FROM unnest(deferral_run, deferral_id, deferral_seq, deferral_name, deferral_function,
                deferral_status, deferral_reason, deferral_input, deferral_meta, deferral_event)
            AS new (run_id, id, seq, name, function, status, reason, input, meta, event_id)
        WHERE new.run_id <> ALL (dropped)
        ON CONFLICT ON CONSTRAINT deferrals_pkey DO UPDATE SET status = excluded.status, reason = excluded.reason,
            input = excluded.input, meta = excluded.meta, event_id = excluded.event_id;
    END IF;
END
$$;
