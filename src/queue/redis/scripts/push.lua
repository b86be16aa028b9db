-- Taking jobs in.

-- Whether a lease is of a session that lives, or at least of one that will be found dead.
local function is_held(field, job, clock, ttl)
    local value = call('HGET', held_by(job.session), field)
    if not value or epoch_in(value) ~= job.epoch then
        return false
    end
    if not call('ZSCORE', SESSIONS, job.session) then
        call('ZADD', SESSIONS, clock + ttl, job.session)
    end
    return true
end

-- The lease of a job whose record Redis has lost, if a session still holds it.
local function lost_lease(field, version, origin, sessions)
    for _, session in ipairs(sessions) do
        local value = call('HGET', held_by(session), field)
        if value then
            return {
                waits = false, nb = due_of(version), flag = '-', since = sub(value, -15), epoch = epoch_in(value),
                session = session, origin = origin, version = version,
            }
        end
    end
end

-- Takes in a job that is known. One that waits stays or is replaced; for one that is leased the newer version waits.
-- What should be in a line and is not, because Redis has lost a key, is put there.
local function push_known(field, version, origin, job, clock, ttl)
    local newest, newest_origin = job.version, job.origin
    local pending = job.flag == 'p' and call('HGET', run_of(field), 'p' .. key_of(field))
    if pending then
        local bar = find(pending, '|', 1, true)
        newest, newest_origin = sub(pending, bar + 1), sub(pending, 1, bar - 1)
    end
    if attempt_of(version) < attempt_of(newest) then
        -- It comes late. The newest one is meant.
        version, origin = newest, newest_origin
    end
    if job.waits and job.version == version then
        local fn = function_of(version)
        if not is_in_line(field, job.nb, version, job.started) then
            line_up(field, job.nb, version, job.started)
        end
        local tuple = tuple_of(version, job.started)
        if tuple ~= '' and job.nb <= now then
            touch(fn, tuple)
            if gated_ready(fn) == 0 then
                call('SADD', lines_of(fn), tuple)
                touch_all(fn)
            end
        end
        -- The rotation and the due times are looked at, too.
        ready_dirty[fn] = true
        delayed_dirty[fn] = true
    elseif job.waits then
        leave_line(field, job.nb, job.version, job.started)
        put_waiting(field, due_of(version), origin, version)
        line_up(field, due_of(version), version)
    elseif is_held(field, job, clock, ttl) then
        if job.version ~= version then
            job.flag, job.turn = 'p', nil
            call('HSET', run_of(field), 'p' .. key_of(field), origin .. '|' .. version)
            put_leased(field, job)
        elseif job.flag == 'f' then
            job.flag = '-'
            put_leased(field, job)
        end
    else
        must_recount = call('HDEL', held_by(job.session), field) == 1 or must_recount
        call('HDEL', run_of(field), 'p' .. key_of(field))
        local started = job.version == version
        if started then
            origin = origin == '' and '' or '*'
        end
        put_waiting(field, due_of(version), origin, version, started)
        line_up(field, due_of(version), version, started)
    end
end

-- Takes in jobs from `args`: field, version and origin each. Answers a text with `1` for each job that is in and `0` for each
-- that found no room, and whether one of them is due by the clock of Redis.
local function push(args, first, number, session, capacity, share, clock, ttl)
    local answers, has_due = {}, false
    local lengths = {}
    local clock_digits = digits(clock)
    local has_gone, sessions
    for i = 1, number do
        local at = first + (i - 1) * 3
        local field, version, origin = args[at], args[at + 1], args[at + 2]
        local fn = function_of(version)
        if origin == 'c' then
            if has_gone == nil then
                has_gone = call('EXISTS', GONE) == 1
            end
            origin = has_gone and call('ZSCORE', GONE, field) and '*' or session
        elseif origin == 'r' then
            origin = '*'
        else
            origin = ''
        end
        local run, key = run_of(field), key_of(field)
        local record = call('HGET', run, key)
        local is_in = true
        local known = record and parse(record)
        if not known and origin ~= session then
            sessions = sessions or call('ZRANGE', SESSIONS, 0, -1)
            known = lost_lease(field, version, origin, sessions)
            if known then
                add(1)
                put_leased(field, known)
                must_recount = true
            end
        end
        if known then
            push_known(field, version, origin, known, clock, ttl)
        else
            if count >= capacity and clock - tonumber(call('HGET', META, 'counted') or 0) > 1000 then
                recount()
                call('HSET', META, 'counted', plain(clock))
            end
            local length = lengths[fn]
                or call('ZCARD', ready_of(fn)) + call('ZCARD', delayed_of(fn)) + gated_ready(fn)
            -- Starts that wait at gates must not keep out what lets the runs before them end.
            local most, of_function = capacity, share
            if sub(version, 67, 67) == 'g' and sub(key, 1, 1) ~= '0' then
                most, of_function = capacity * 2, share * 2
            end
            if count >= most or length >= of_function then
                is_in = false
                lengths[fn] = length
            else
                lengths[fn] = length + 1
                add(1)
                local due = due_of(version)
                call('HSET', run, key, 'W' .. due .. origin .. '|' .. version)
                line_up(field, due, version)
            end
        end
        answers[i] = is_in and '1' or '0'
        has_due = has_due or (is_in and due_of(version) <= clock_digits)
    end
    return table.concat(answers), has_due
end
