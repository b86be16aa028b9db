-- The lines of jobs that wait, the rotation of functions, and how many jobs there are.

-- The member of a job among the delayed ones; a mark tells those with gates.
local function delayed_member(field, version, tuple)
    return rank_of(version) .. (tuple == '' and '' or 'g') .. field
end

local function line_up(field, nb, version, started)
    local fn, tuple = function_of(version), tuple_of(version, started)
    if nb > now then
        call('ZADD', delayed_of(fn), nb, delayed_member(field, version, tuple))
        delayed_dirty[fn] = true
    elseif tuple == '' then
        call('ZADD', ready_of(fn), rank_of(version), nb .. field)
        ready_dirty[fn] = true
    else
        local rank = rank_of(version)
        count_ready(fn, call('ZADD', line_of(fn, tuple), rank, nb .. field))
        touch_new(fn, tuple, rank)
    end
end

local function leave_line(field, nb, version, started)
    local fn, tuple = function_of(version), tuple_of(version, started)
    if tuple == '' and call('ZREM', ready_of(fn), nb .. field) == 1 then
        ready_dirty[fn] = true
    elseif tuple ~= '' and call('ZREM', line_of(fn, tuple), nb .. field) == 1 then
        count_ready(fn, -1)
        touch(fn, tuple)
    elseif call('ZREM', delayed_of(fn), delayed_member(field, version, tuple)) == 1 then
        delayed_dirty[fn] = true
    end
end

-- Whether a job that waits is in the line it should be in.
local function is_in_line(field, nb, version, started)
    local fn, tuple = function_of(version), tuple_of(version, started)
    local line = tuple == '' and ready_of(fn) or line_of(fn, tuple)
    return call('ZSCORE', line, nb .. field) or call('ZSCORE', delayed_of(fn), delayed_member(field, version, tuple))
end

function next_turn()
    turn = turn + 1
    is_turn_dirty = true
    return plain(turn)
end

-- Brings the rotation and the due times in line with the lines.
local function settle()
    settle_lines()
    for fn in pairs(ready_dirty) do
        if call('EXISTS', ready_of(fn)) == 0 and (gated_ready(fn) == 0 or call('EXISTS', shown_of(fn)) == 0) then
            call('ZREM', TURNS, fn)
        elseif not call('ZSCORE', TURNS, fn) then
            call('ZADD', TURNS, next_turn(), fn)
        end
    end
    for fn in pairs(delayed_dirty) do
        local first = call('ZRANGE', delayed_of(fn), 0, 0, 'WITHSCORES')
        if first[2] then
            call('ZADD', DUES, first[2], fn)
        else
            call('ZREM', DUES, fn)
        end
    end
    ready_dirty, delayed_dirty = {}, {}
end

local function add(number)
    count = max(0, count + number)
    is_count_dirty = true
end

-- Counts the jobs anew: single keys may have been evicted.
local function recount()
    settle()
    save_gates()
    local total = 0
    for _, fn in ipairs(call('ZRANGE', TURNS, 0, -1)) do
        total = total + call('ZCARD', ready_of(fn))
    end
    for _, number in ipairs(call('HVALS', READY)) do
        total = total + tonumber(number)
    end
    for _, fn in ipairs(call('ZRANGE', DUES, 0, -1)) do
        total = total + call('ZCARD', delayed_of(fn))
    end
    for _, session in ipairs(call('ZRANGE', SESSIONS, 0, -1)) do
        total = total + max(0, call('HLEN', held_by(session)) - 1)
    end
    count = total
    is_count_dirty = true
end
