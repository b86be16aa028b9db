-- Layout, records and lines: what every other part of the script stands on. The keys are described in mod.rs.
--
-- Times are texts of 15 digits (milliseconds), so that they compare as texts and need no formatting. A *field* is a run's
-- id (26 characters) and the job's key; a *version* is a job as it was pushed: function (36), rank (15), due (15), `g` and its
-- gates if it has any, the due time as it was, attempt and the rest, with `|` between.
--
-- A record is one of
--   W <not before:15> <origin> | <version>      or V for a start that has passed its throttle, or
--   T <not before:15> <turn:15> <origin> | <version>   for one that may give back the turn that it has taken there then
--   L <not before:15> <flag:1> <since:15> <epoch> | <session> | <origin> | <version>   with `t<turn>` after the epoch likewise
-- Origin: empty if the job was read from the store; else the session that pushed it after its commit, or `*` once somebody
-- may have done it. Flag: `-`, `p` (a newer version waits in the field `p<key>`), `f` (to be dropped when the lease ends).

--
-- All of this is read once and stays; what belongs to one call is set anew by `begin`. While it is read nothing of Redis or
-- of Lua's library is there, so that these, too, are found in `begin`.

local call, sub, find, gmatch, format, min, max, floor
local META, base, TURNS, DUES, SESSIONS, HUNGRY, GONE

local function ready_of(fn) return base .. 'r:' .. fn end
local function delayed_of(fn) return base .. 'd:' .. fn end
local function held_by(session) return base .. 'h:' .. session end
local function reaped_mark(session) return base .. 'reaped:' .. session end
local function run_of(field) return base .. 'j:' .. sub(field, 1, 26) end
local function key_of(field) return sub(field, 27) end

local function digits(number) return format('%015.0f', number) end
local function plain(number) return format('%.0f', number) end

local function function_of(version) return sub(version, 1, 36) end
local function rank_of(version) return sub(version, 37, 51) end
local function due_of(version) return sub(version, 52, 66) end
local function attempt_of(version)
    local bar = find(version, '|', 67, true)
    return tonumber(sub(version, bar + 1, find(version, '|', bar + 1, true) - 1))
end

-- What the script knows of the whole queue; written back at the end of an exchange.
local now, epoch, turn, count
local is_count_dirty, is_turn_dirty
-- Functions whose line of ready jobs, or of delayed ones, has changed since `settle`.
local ready_dirty, delayed_dirty

local function begin(keys)
    call = redis.call
    sub, find, gmatch, format = string.sub, string.find, string.gmatch, string.format
    min, max, floor = math.min, math.max, math.floor
    META = keys[1]
    base = sub(META, 1, -5)
    TURNS, DUES, SESSIONS = base .. 'turns', base .. 'dues', base .. 'sessions'
    HUNGRY, GONE = base .. 'hungry', base .. 'gone'
    now, epoch, turn, count = nil, nil, nil, nil
    is_count_dirty, is_turn_dirty = false, false
    ready_dirty, delayed_dirty = {}, {}
end

local function parse(record)
    local kind = sub(record, 1, 1)
    if kind ~= 'L' then
        local from = kind == 'T' and 32 or 17
        local bar = find(record, '|', from, true)
        return {
            waits = true,
            started = kind ~= 'W',
            turn = kind == 'T' and sub(record, 17, 31) or nil,
            nb = sub(record, 2, 16),
            origin = sub(record, from, bar - 1),
            version = sub(record, bar + 1),
        }
    end
    local a = find(record, '|', 33, true)
    local b = find(record, '|', a + 1, true)
    local c = find(record, '|', b + 1, true)
    local mark = find(record, 't', 33, true)
    local turns = mark and mark < a
    return {
        waits = false,
        started = true,
        turn = turns and sub(record, mark + 1, a - 1) or nil,
        nb = sub(record, 2, 16),
        flag = sub(record, 17, 17),
        since = sub(record, 18, 32),
        epoch = sub(record, 33, (turns and mark or a) - 1),
        session = sub(record, a + 1, b - 1),
        origin = sub(record, b + 1, c - 1),
        version = sub(record, c + 1),
    }
end

-- The gates that a job has to pass, as `gates.lua` names a line; empty without. One that has started passes no throttle.
local function tuple_of(version, started)
    if sub(version, 67, 67) ~= 'g' then
        return ''
    end
    local from = (started and sub(version, 69, 69) == 't') and 110 or 69
    return sub(version, from, 68 + 41 * tonumber(sub(version, 68, 68)))
end

local function put_waiting(field, nb, origin, version, started, turn)
    local head = turn and 'T' .. nb .. turn or (started and 'V' or 'W') .. nb
    call('HSET', run_of(field), key_of(field), head .. origin .. '|' .. version)
end

local function put_leased(field, job)
    call('HSET', run_of(field), key_of(field), 'L' .. job.nb .. job.flag .. job.since .. job.epoch
        .. (job.turn and 't' .. job.turn or '') .. '|' .. job.session .. '|' .. job.origin .. '|' .. job.version)
end

-- The value of a lease in its session's hash.
local function lease_value(job)
    return job.epoch .. '|' .. function_of(job.version) .. '|' .. job.since
end

local function epoch_in(value)
    return sub(value, 1, find(value, '|', 1, true) - 1)
end

