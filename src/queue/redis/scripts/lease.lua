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
                local member = list[i]
                args[#args + 1] = sub(member, 1, 15)
                args[#args + 1] = digits(tonumber(list[i + 1])) .. sub(member, 16)
            end
            if #args > 0 then
                call('ZADD', ready, unpack(args))
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

-- Leases at most `wanted` jobs of a function into `out`; answers how many.
local function take(fn, wanted, session, out, held)
    local got, garbage = 0, GARBAGE
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
                line_up(field, nb, job.version)
            else
                epoch = epoch + 1
                local number = plain(epoch)
                call('HSET', run, key, 'L' .. nb .. '-' .. now .. number .. '|' .. session .. '|' .. job.origin .. '|'
                    .. job.version)
                held[#held + 1] = field
                held[#held + 1] = number .. '|' .. fn .. '|' .. now
                out[#out + 1] = field
                out[#out + 1] = number
                out[#out + 1] = job.version
                out[#out + 1] = job.origin == session and '1' or '0'
                got = got + 1
            end
        end
    end
    ready_dirty[fn] = true
    return got
end

-- Leases at most `wanted` jobs. `rooms` says how many more of a function the caller may hold, where that is less than
-- `limit`; it is brought up to date.
local function lease(wanted, limit, rooms, blocked, session)
    local out, held = {}, {}
    local open = {}
    if wanted == 0 or limit == 0 then
        return out, wanted
    end
    for _, fn in ipairs(call('ZRANGE', TURNS, 0, min(wanted, 10000) + blocked - 1)) do
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
    for i = 1, #held, 1000 do
        call('HSET', held_by(session), unpack(held, i, min(i + 999, #held)))
    end
    return out, wanted
end
