-- Handing out: promotes what has become due, then serves functions in turns.

-- Jobs promoted in one call, so that Redis is never busy for long, and of one function before the next one's turn.
local PROMOTE = 4000
local PROMOTE_EACH = 200
-- Members without a job behind them that one call steps over.
local GARBAGE = 1000

-- Moves delayed jobs that are due into the lines of ready ones.
local function promote()
    local left = PROMOTE
    while left > 0 do
        local due = call('ZRANGEBYSCORE', DUES, '-inf', now, 'LIMIT', 0, 64)
        if #due == 0 then
            return
        end
        for _, fn in ipairs(due) do
            local key, ready = delayed_of(fn), ready_of(fn)
            local list = call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, min(left, PROMOTE_EACH))
            local args = {}
            for i = 1, #list, 2 do
                local member, nb = list[i], digits(tonumber(list[i + 1]))
                if sub(member, 16, 16) ~= 'g' then
                    args[#args + 1] = sub(member, 1, 15)
                    args[#args + 1] = nb .. sub(member, 16)
                else
                    local field = sub(member, 17)
                    local record = call('HGET', run_of(field), key_of(field))
                    local job = record and parse(record)
                    if job and job.waits and job.nb == nb and function_of(job.version) == fn then
                        line_up(field, nb, job.version, job.started)
                    end
                end
            end
            if #args > 0 then
                call('ZADD', ready, unpack(args))
            end
            if #list > 0 then
                call('ZREMRANGEBYRANK', key, 0, #list / 2 - 1)
                ready_dirty[fn] = true
                left = left - #list / 2
            end
            delayed_dirty[fn] = true
            if left <= 0 then
                break
            end
        end
        settle()
    end
end

-- Opens the throttles whose time has come, or looks at all of them again.
local function open_throttles(all)
    local opens
    if all then
        opens = call('ZRANGE', OPENS, 0, -1)
    else
        opens = call('ZRANGEBYSCORE', OPENS, '-inf', now, 'LIMIT', 0, PROMOTE_EACH)
    end
    for _, member in ipairs(opens) do
        call('ZREM', OPENS, member)
        offer('t', sub(member, 1, 8), sub(member, 9, 40), sub(member, 41))
    end
    call('ZREMRANGEBYSCORE', MARKS, '-inf', now_ms() * 1000)
end

-- Leases a job that was taken out of a line.
local function give(field, job, fn, session, out, held, took_turn)
    local run, key = run_of(field), key_of(field)
    epoch = epoch + 1
    local number, turn = plain(epoch), took_turn and now or job.turn
    call('HSET', run, key, 'L' .. job.nb .. '-' .. now .. number .. (turn and 't' .. turn or '') .. '|' .. session .. '|' .. job.origin .. '|'
        .. job.version)
    held[#held + 1] = field
    held[#held + 1] = number .. '|' .. fn .. '|' .. now
    out[#out + 1] = field
    out[#out + 1] = number
    out[#out + 1] = job.version
    out[#out + 1] = job.origin == session and '1' or '0'
end

-- Leases at most `wanted` jobs without gates of a function into `out`, stepping over so many members that are none or not
-- due; answers how many.
local function take_free(fn, wanted, session, out, held, garbage)
    local got = 0
    local ready = ready_of(fn)
    while got < wanted and garbage > 0 do
        local popped = call('ZPOPMIN', ready, min(wanted - got, 1000))
        if #popped == 0 then
            break
        end
        for i = 1, #popped, 2 do
            local nb, field = sub(popped[i], 1, 15), sub(popped[i], 16)
            local run, key = run_of(field), key_of(field)
            local record = call('HGET', run, key)
            local job = record and parse(record)
            if not (job and job.waits and job.nb == nb and function_of(job.version) == fn) then
                garbage = garbage - 1
            elseif nb > now then
                -- The clock was set back, or another instance's is ahead of this one's.
                garbage = garbage - 1
                line_up(field, nb, job.version, job.started)
            else
                give(field, job, fn, session, out, held)
                got = got + 1
            end
        end
    end
    ready_dirty[fn] = true
    return got
end

-- Takes the first job of a line whose gates are open, unless it turns out to be none or not to be due. Answers whether it
-- was one, and where the next one stands.
local function take_first(fn, tuple, session, out, held)
    local limits = sub(tuple, 1, 1) == 't' and limits_of(fn)
    local takes_turn = limits and limits[sub(tuple, 2, 9)]
    local line = line_of(fn, tuple)
    local popped = call('ZPOPMIN', line, 2)
    if not popped[1] then
        return false
    end
    if popped[3] then
        call('ZADD', line, popped[4], popped[3])
    end
    count_ready(fn, -1)
    local nb, field = sub(popped[1], 1, 15), sub(popped[1], 16)
    local record = call('HGET', run_of(field), key_of(field))
    local job = record and parse(record)
    local is_ours = job and job.waits and job.nb == nb and function_of(job.version) == fn
        and tuple_of(job.version, job.started) == tuple
    if is_ours and nb > now then
        -- The clock was set back.
        line_up(field, nb, job.version, job.started)
    elseif is_ours then
        give(field, job, fn, session, out, held, takes_turn)
        return true, popped[4]
    end
    return false, popped[4]
end

-- Counts a start at its throttle, and offers what is left.
local function count_start(fn, tuple)
    local rule, bucket = sub(tuple, 2, 9), sub(tuple, 10, 41)
    local limits = limits_of(fn)
    local rate = limits and limits[rule]
    if rate then
        local mark, clock_micros = mark_of(bucket, fn, rate)
        call('ZADD', MARKS, plain(max(mark, clock_micros) + rate[1]), bucket .. fn)
        offer('t', rule, bucket, fn)
    end
end

-- Leases at most `wanted` jobs of a function, those with gates among them.
local function take_gated(fn, wanted, session, out, held)
    local got, tries = 0, GARBAGE
    while got < wanted and tries > 0 do
        local lines = call('ZRANGE', shown_of(fn), 0, wanted - got - 1, 'WITHSCORES')
        local free = call('ZRANGE', ready_of(fn), 0, 0, 'WITHSCORES')[2]
        if not lines[1] then
            return got + take_free(fn, wanted - got, session, out, held, GARBAGE)
        end
        local ids = {}
        for i = 1, #lines, 2 do
            buckets_in(lines[i], ids)
        end
        load_buckets(ids)
        -- Each line once, as long as nothing can come before it; then the lines are read again.
        local limit
        was_offered = false
        for i = 1, #lines, 2 do
            local tuple, score = lines[i], tonumber(lines[i + 1])
            if got >= wanted or was_offered or (limit and score > limit) then
                break
            end
            if free and tonumber(free) <= score then
                local taken = take_free(fn, 1, session, out, held, 1)
                got = got + taken
                tries = tries - 1
                break
            end
            tries = tries - 1
            local kind, rule, bucket = first_shut(fn, tuple)
            if kind then
                note(to_hide, fn, tuple)
                wait_at(kind, rule, bucket, fn, tuple, lines[i + 1])
                hand_on(fn, tuple, bucket)
            else
                local taken, following = take_first(fn, tuple, session, out, held)
                if taken then
                    got = got + 1
                    hold(tuple, 1)
                    if sub(tuple, 1, 1) == 't' then
                        count_start(fn, tuple)
                    end
                end
                if following then
                    note(to_show, fn, following, tuple)
                    limit = min(limit or math.huge, tonumber(following))
                else
                    note(to_hide, fn, tuple)
                    note(to_strike, fn, tuple)
                end
                hand_on(fn, tuple)
            end
        end
        show()
    end
    ready_dirty[fn] = true
    return got
end

-- Leases at most `wanted` jobs of a function into `out`; answers how many.
local function take(fn, wanted, session, out, held)
    if is_shut or gated_ready(fn) == 0 then
        return take_free(fn, wanted, session, out, held, GARBAGE)
    end
    return take_gated(fn, wanted, session, out, held)
end

-- One round over the functions whose turn it is. Answers how many jobs are still wanted, and whether a function that
-- seemed to have something had nothing that may go.
local function serve(wanted, limit, rooms, blocked, session, out, held)
    local open, is_fruitless = {}, false
    -- While nothing with gates is handed out, functions in the rotation may have nothing else.
    local idle = is_shut and call('HLEN', READY) or 0
    for _, fn in ipairs(call('ZRANGE', TURNS, 0, min(wanted, 10000) + blocked + idle - 1)) do
        if (rooms[fn] or limit) > 0 then
            open[#open + 1] = fn
        end
    end
    local last = {}
    while wanted > 0 and #open > 0 do
        local share = max(1, floor(wanted / #open))
        local again = {}
        for _, fn in ipairs(open) do
            if wanted == 0 then
                break
            end
            local room = rooms[fn] or limit
            local part = min(share, room, wanted)
            local got = take(fn, part, session, out, held)
            if got > 0 then
                wanted = wanted - got
                rooms[fn] = room - got
                last[#last + 1] = fn
                last[fn] = #last
                if got == part and room > got then
                    again[#again + 1] = fn
                end
            else
                is_fruitless = true
            end
        end
        open = again
    end
    settle()
    -- Those that were served go to the end, in the order of their last service.
    for i, fn in ipairs(last) do
        if last[fn] == i then
            call('ZADD', TURNS, 'XX', next_turn(), fn)
        end
    end
    return wanted, is_fruitless
end

-- Rounds in one call.
local ROUNDS = 50

-- Leases at most `wanted` jobs. `rooms` says how many more of a function the caller may hold, where that is less than
-- `limit`; it is brought up to date.
local function lease(wanted, limit, rooms, blocked, session)
    local out, held = {}, {}
    if wanted == 0 or limit == 0 then
        return out, wanted
    end
    local is_fruitless
    for _ = 1, ROUNDS do
        wanted, is_fruitless = serve(wanted, limit, rooms, blocked, session, out, held)
        -- What was found shut has left the rotation, and may have hidden another function.
        if wanted == 0 or not is_fruitless or is_shut then
            break
        end
    end
    for i = 1, #held, 1000 do
        call('HSET', held_by(session), unpack(held, i, min(i + 999, #held)))
    end
    return out, wanted
end
