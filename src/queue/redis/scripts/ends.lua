-- How leases end: done, given back, taken back from a session that is gone; and how a run is forgotten.

local function drop(field)
    call('HDEL', run_of(field), key_of(field))
    add(-1)
end

-- Ends the lease with this epoch, if there is one. `due` is when the job is to come back, nil if it is done with, and
-- 'at once' if nobody is known to have done it.
local function end_lease(field, number, due, clock)
    local run, key = run_of(field), key_of(field)
    local record = call('HGET', run, key)
    local job = record and parse(record)
    if not job or job.waits or job.epoch ~= number then
        return false
    end
    local tuple = tuple_of(job.version, true)
    if call('HDEL', held_by(job.session), field) == 1 and tuple ~= '' then
        freed[#freed + 1] = function_of(job.version)
        freed[#freed + 1] = tuple
    end
    if due == 'at once' then
        due = job.nb
    end
    if job.flag == 'p' then
        local pending = call('HGET', run, 'p' .. key)
        call('HDEL', run, 'p' .. key)
        if pending then
            local bar = find(pending, '|', 1, true)
            local origin, version = sub(pending, 1, bar - 1), sub(pending, bar + 1)
            local nb = due_of(version)
            if due and due > nb then
                nb = due
            end
            put_waiting(field, nb, origin, version)
            line_up(field, nb, version)
            return true
        end
    end
    if job.flag == 'f' or not due then
        if job.origin == '' then
            -- Whoever made this job may be about to bring it, and must not take it for untouched.
            call('ZADD', GONE, clock, field)
        end
        drop(field)
    else
        put_waiting(field, due, job.origin == '' and '' or '*', job.version, true, job.turn)
        line_up(field, due, job.version, true)
    end
    return true
end

-- Gives back the turn at a throttle that a job has taken whose lease has this epoch, if it has one to give back.
local function return_turn(field, number)
    local record = call('HGET', run_of(field), key_of(field))
    local job = record and parse(record)
    if not job or job.waits or job.epoch ~= number or not job.turn then
        return
    end
    local fn, tuple = function_of(job.version), tuple_of(job.version, false)
    local rule, bucket = sub(tuple, 2, 9), sub(tuple, 10, 41)
    local limits = limits_of(fn)
    local rate = limits and limits[rule]
    local mark = rate and call('ZSCORE', MARKS, bucket .. fn)
    local gone = (now_ms() - tonumber(job.turn)) * 1000
    -- It is worth what is left of its interval; set back since, the clock does not tell how much that is.
    if mark and gone >= 0 and gone < rate[1] then
        call('ZADD', MARKS, plain(tonumber(mark) - (rate[1] - gone)), bucket .. fn)
        offer('t', rule, bucket, fn)
    end
end

local function forget(run)
    local key = base .. 'j:' .. run
    local fields = call('HGETALL', key)
    for i = 1, #fields, 2 do
        -- Pending versions are found with the lease they wait for.
        if sub(fields[i], 1, 1) ~= 'p' then
            local job, field = parse(fields[i + 1]), run .. fields[i]
            if job.waits then
                leave_line(field, job.nb, job.version, job.started)
                drop(field)
            else
                if job.flag == 'p' then
                    call('HDEL', key, 'p' .. fields[i])
                end
                job.flag, job.turn = 'f', nil
                put_leased(field, job)
            end
        end
    end
end

-- When the first session expires that is not the own one.
local function earliest_expiry(own)
    local sessions = call('ZRANGE', SESSIONS, 0, 1, 'WITHSCORES')
    for i = 1, #sessions, 2 do
        if sessions[i] ~= own then
            return tonumber(sessions[i + 1])
        end
    end
end

-- Gives back what sessions held that have not been heard of in time. Answers how many jobs, and how many sessions.
local function reap(own, clock)
    local jobs, gone = 0, 0
    for _, session in ipairs(call('ZRANGEBYSCORE', SESSIONS, '-inf', clock, 'LIMIT', 0, 8)) do
        if session ~= own then
            local held = call('HGETALL', held_by(session))
            for i = 1, #held, 2 do
                if held[i] ~= 'q' and end_lease(held[i], epoch_in(held[i + 1]), 'at once', clock) then
                    jobs = jobs + 1
                end
            end
            must_recount = must_recount or call('HLEN', held_by(session)) > 1
            call('DEL', held_by(session))
            call('ZREM', SESSIONS, session)
            gone = gone + 1
            -- So that its process, if it lives, can tell this from a Redis that has lost the session.
            call('SET', reaped_mark(session), '1', 'PX', 86400000)
        end
    end
    return jobs, gone
end

-- Brings what Redis knows of a session's leases in line with what its process knows: `list` has field, epoch, since and
-- version of each. What the process does not know goes back into line; what is not the process's is answered.
-- With `is_new`, Redis has lost something, and what is missing is made again.
local function reconcile(session, list, is_new, clock)
    local known, lost = {}, {}
    must_recount = true
    local held = held_by(session)
    for i = 1, #list, 4 do
        local field, number, since, version = list[i], list[i + 1], list[i + 2], list[i + 3]
        local record = call('HGET', run_of(field), key_of(field))
        local job = record and parse(record)
        if job and not job.waits and job.epoch == number then
            known[field] = true
            if job.session ~= session then
                call('HDEL', held_by(job.session), field)
                job.session = session
                put_leased(field, job)
            end
            call('HSET', held, field, lease_value(job))
        elseif is_new and version ~= '' and (not job or job.waits) then
            known[field] = true
            local again = {
                nb = due_of(version), flag = '-', since = since, epoch = number, session = session, origin = '*',
                version = version,
            }
            if job then
                leave_line(field, job.nb, job.version, job.started)
                if job.version ~= version then
                    again.flag = 'p'
                    call('HSET', run_of(field), 'p' .. key_of(field), job.origin .. '|' .. job.version)
                end
            else
                add(1)
            end
            put_leased(field, again)
            call('HSET', held, field, lease_value(again))
        else
            lost[#lost + 1] = field
        end
    end
    local entries = call('HGETALL', held)
    for i = 1, #entries, 2 do
        if entries[i] ~= 'q' and not known[entries[i]] then
            end_lease(entries[i], epoch_in(entries[i + 1]), 'at once', clock)
            call('HDEL', held, entries[i])
        end
    end
    return lost
end
