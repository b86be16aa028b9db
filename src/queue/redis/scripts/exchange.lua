-- One exchange of a process with the queue: everything that it has to tell and to ask, in one round trip.
--
-- Whatever happens to an exchange whose answer is lost, sending its content again under the next number is harmless: an
-- older number than the session's last is refused, ends name the epoch of their lease, a job pushed twice is one job, and
-- leases that the process does not know of are found by `reconcile`.

local at = 0
local function arg()
    at = at + 1
    return ARGV[at]
end

local proposed, process, session, number, flags = arg(), arg(), arg(), tonumber(arg()), arg()
local ttl, asked_now, wanted, limit = tonumber(arg()), arg(), tonumber(arg()), tonumber(arg())
local capacity, share, epoch_seen, held_count = tonumber(arg()), tonumber(arg()), tonumber(arg()), tonumber(arg())
local answered, told, back = tonumber(arg()), arg(), tonumber(arg())
local function has(flag) return find(flags, flag, 1, true) ~= nil end

local time = call('TIME')
local clock = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)

-- The generation: without it Redis has lost what it held. Epochs and turns begin above all that were given before, and are
-- never behind the clock, so that they rise on after Redis has come back as it was some time ago.
local seed = tonumber(time[1]) * 1000000 + tonumber(time[2])
local meta = call('HMGET', META, 'g', 'now', 'epoch', 'turn', 'count', 'rev', 'shut', 'used')
local generation = meta[1]
revision, used_up = tonumber(meta[6] or ''), meta[8] or ''
local shut_until = tonumber(meta[7] or 0)
now, epoch, turn, count = meta[2] or '', tonumber(meta[3]), tonumber(meta[4]), tonumber(meta[5])
local is_full = false
if not (generation and epoch and turn and count) then
    generation = proposed
    epoch, turn = seed, seed
    local made = pcall_('HSET', META, 'g', generation, 'epoch', plain(epoch), 'turn', plain(turn), 'count', 0)
    is_full = type(made) == 'table' and made.err ~= nil
    recount()
    -- Others may hold leases that Redis does not know of, until they have said so or their time is up.
    shut_until = clock + ttl
    used_up = asked_now ~= '' and asked_now or digits(clock)
    must_recount = true
    call('HSET', META, 'shut', plain(shut_until), 'used', used_up)
    call('ZADD', MARKS, '+inf', '')
end
epoch = max(epoch, seed, epoch_seen)

-- The session.
local HELD = held_by(session)
local last = tonumber(call('HGET', HELD, 'q') or '')
if last and number <= last then
    return { 'stale', generation }
elseif not last and not has('o') then
    return { 'unknown', generation, plain(call('EXISTS', reaped_mark(session))) }
end
local notes = ''
must_recount = must_recount or not last
if last and last < answered then
    -- It came back as it was some time ago, and leases given since are missing.
    notes = 'f'
    shut_until = clock + ttl
    call('HSET', META, 'shut', plain(shut_until))
end
is_shut = clock < shut_until

-- The places of the lists in ARGV.
local rooms, blocked = {}, 0
for _ = 1, tonumber(arg()) do
    local fn, room = arg(), tonumber(arg())
    rooms[fn] = room
    if room <= 0 then
        blocked = blocked + 1
    end
end
local ends = tonumber(arg())
local ends_at = at + 1
at = at + ends * 3
local forgets = tonumber(arg())
local forgets_at = at + 1
at = at + forgets
local helds = tonumber(arg())
local helds_at = at + 1
at = at + helds * 4
local pushes = tonumber(arg())
local pushes_at = at + 1
at = at + pushes * 3

-- A full Redis refuses a script's first write if that could take memory, and none after it. Jobs are the one thing to
-- refuse: without all else nothing would ever end. So the first write asks, and the second is one that is always allowed.
if pushes > 0 and not is_full then
    local asked = pcall_('HSET', META, 'g', generation)
    is_full = type(asked) == 'table' and asked.err ~= nil
end
call('HDEL', HELD, '')
call('HSET', HELD, 'q', plain(number))
if has('o') or has('b') then
    call('ZADD', SESSIONS, clock + ttl, session)
    call('PEXPIRE', HELD, 86400000)
end
local before = now
if asked_now ~= '' then
    now = asked_now
end
if has('c') then
    if not revision or tonumber(told) >= revision or call('HEXISTS', LIMITS, '') == 0 then
        local old, changed = {}, {}
        local entries = call('HGETALL', LIMITS)
        for i = 1, #entries, 2 do
            old[entries[i]] = entries[i + 1]
            changed[entries[i]] = true
        end
        call('DEL', LIMITS)
        call('HSET', LIMITS, '', told)
        call('HSET', META, 'rev', told)
        for _ = 1, tonumber(arg()) do
            local fn, text = arg(), arg()
            call('HSET', LIMITS, fn, text)
            changed[fn] = old[fn] ~= text or nil
        end
        if not revision or not old[''] then
            -- Before, all gates were shut.
            for _, fn in ipairs(call('HKEYS', READY)) do
                changed[fn] = true
            end
        end
        changed[''] = nil
        revision = tonumber(told)
        limits_known = {}
        for fn in pairs(changed) do
            touch_all(fn)
            for _, limit in pairs(limits_of(fn) or {}) do
                if type(limit) == 'table' then
                    -- Nobody waits longer than a throttle that is used up, under the numbers that count now.
                    local most = (tonumber(before) or 0) * 1000 + limit[1] * limit[2]
                    revise_marks(fn, function(mark) return min(mark, most) end)
                end
            end
        end
    end
elseif told ~= '' and (not revision or revision < tonumber(told)) then
    notes = notes .. 'c'
end

for i = ends_at, ends_at + ends * 3 - 1, 3 do
    local due = ARGV[i + 2]
    if due == '' then
        due = nil
    end
    end_lease(ARGV[i], ARGV[i + 1], due, clock)
end
for i = forgets_at, forgets_at + forgets - 1 do
    forget(ARGV[i])
end

local lost = {}
if has('s') then
    local list = {}
    for i = helds_at, helds_at + helds * 4 - 1 do
        list[#list + 1] = ARGV[i]
    end
    lost = reconcile(session, list, has('n'), clock)
end

local reaped = 0
if has('b') then
    if call('HLEN', HELD) - 1 ~= held_count and not has('s') then
        notes = notes .. 'm'
    end
    reaped = reap(session, clock)
    call('ZREMRANGEBYSCORE', GONE, '-inf', clock - 60000)
end

local pushed, has_due = '', false
if pushes > 0 and is_full then
    pushed = string.rep('0', pushes)
elseif pushes > 0 then
    pushed, has_due = push(pushes_at, pushes, session, capacity, share, clock, ttl)
end

-- Whether there is anything with gates now.
local function is_gated()
    for _, number in pairs(ready_counts) do
        if number > 0 then
            return true
        end
    end
    return has_gated
end

-- A session without what it holds, or one that is not known any more: leases that Redis has lost. Nobody gets anything with
-- gates until they are known again, or their time is up.
local function check_leases()
    local is_known = false
    for _, other in ipairs(call('ZRANGE', SESSIONS, 0, -1)) do
        is_known = is_known or other == session
        if call('EXISTS', held_by(other)) == 0 then
            is_shut = true
        end
    end
    is_shut = is_shut or not is_known
    if is_shut and shut_until <= clock then
        shut_until = clock + ttl
        call('HSET', META, 'shut', plain(shut_until))
    end
    must_recount = must_recount or is_shut or call('HEXISTS', SLOTS, '') == 0
end

settle()
local leases = {}
if has('l') then
    promote()
    if back > 0 then
        -- Throttles go by the clock that was set.
        revise_marks('', function(mark) return mark - back * 1000 end)
    end
    if is_gated() then
        check_leases()
        if must_recount then
            recount_slots()
            save_gates()
            for _, fn in ipairs(call('HKEYS', READY)) do
                touch_all(fn)
            end
        end
        open_throttles(back > 0)
        settle()
    end
    local left
    leases, left = lease(wanted, limit, rooms, blocked, session)
    if wanted > 0 and left > 0 then
        call('ZADD', HUNGRY, clock, process)
    elseif wanted > 0 then
        call('ZREM', HUNGRY, process)
    end
elseif has('b') and has('h') then
    call('ZADD', HUNGRY, clock, process)
end

-- One other process is woken for what this one leaves lying. If that one leaves something in turn, it wakes the next.
local has_left = has('l') and call('EXISTS', TURNS) == 1
if has_left or reaped > 0 or (has_due and has('w')) then
    local waiting = call('ZRANGE', HUNGRY, 0, 15, 'WITHSCORES')
    for i = 1, #waiting, 2 do
        local other = waiting[i]
        if other ~= process then
            call('ZREM', HUNGRY, other)
            if tonumber(waiting[i + 1]) > clock - ttl then
                local bell = base .. 'wake:' .. other
                call('LPUSH', bell, '1')
                call('PEXPIRE', bell, ttl)
                break
            end
        end
    end
end

if has('x') then
    local entries = call('HGETALL', HELD)
    for i = 1, #entries, 2 do
        if entries[i] ~= 'q' then
            end_lease(entries[i], epoch_in(entries[i + 1]), 'at once', clock)
        end
    end
    settle()
    call('DEL', HELD, base .. 'wake:' .. process)
    call('ZREM', SESSIONS, session)
    call('ZREM', HUNGRY, process)
end

local changes = {}
local function change(name, value)
    changes[#changes + 1] = name
    changes[#changes + 1] = value
end
if asked_now ~= '' and now ~= meta[2] then change('now', now) end
if is_count_dirty then change('count', plain(count)) end
if is_turn_dirty then change('turn', plain(turn)) end
if #leases > 0 then change('epoch', plain(epoch)) end
if #changes > 0 then
    call('HSET', META, unpack(changes))
end
if must_recount then
    recount_slots()
end
save_gates()
if lacks_limits and told ~= '' and not has('c') then
    notes = notes .. 'c'
end
local _, refused = string.gsub(pushed, '0', '')
if refused > 0 then
    call('HINCRBY', META, 'spilled', refused)
end

-- When the next job is due that this process may have: `r` and its time for one that is ready.
local next_due = ''
if limit > 0 then
    local closed = 0
    for _, room in pairs(rooms) do
        if room <= 0 then
            closed = closed + 1
        end
    end
    local idle = is_shut and call('HLEN', READY) or 0
    for _, fn in ipairs(call('ZRANGE', TURNS, 0, closed + idle)) do
        if (rooms[fn] or limit) > 0 then
            local first = call('ZRANGE', ready_of(fn), 0, 0)[1]
            if first or not is_shut then
                next_due = 'r' .. (first and sub(first, 1, 15) or now)
                break
            end
        end
    end
end
if next_due == '' then
    next_due = call('ZRANGE', DUES, 0, 0, 'WITHSCORES')[2] or ''
    if is_gated() then
        local opens = call('ZRANGE', OPENS, 0, 0, 'WITHSCORES')[2]
        if opens and (next_due == '' or tonumber(opens) < tonumber(next_due)) then
            next_due = digits(tonumber(opens))
        end
        local shut_for = shut_until - clock
        if is_shut and now ~= '' and (next_due == '' or tonumber(now) + shut_for < tonumber(next_due)) then
            next_due = digits(tonumber(now) + max(1, shut_for))
        end
    end
end

return { 'ok', generation, next_due, plain(count), now, notes, pushed, lost, leases, plain(reaped) }
