-- One exchange of a process with the queue: everything that it has to tell and to ask, in one round trip.
--
-- Whatever happens to an exchange whose answer is lost, sending its content again under the next number is harmless: an
-- older number than the session's last is refused, ends name the epoch of their lease, a job pushed twice is one job, and
-- leases that the process does not know of are found by `reconcile`.

-- The arguments, and the place of the last one that was read.
local args, at
local function arg()
    at = at + 1
    return args[at]
end

-- The place of the first of a list of `number` parts of `width` arguments, which are stepped over.
local function list_of(number, width)
    local first = at + 1
    at = at + number * width
    return first
end

-- Nobody gets anything with gates for a while: Redis has lost leases, or may have, that somebody has yet to tell of.
local function shut_for(clock, ttl)
    call('HSET', META, 'shut', plain(clock + ttl))
    return clock + ttl
end

-- Begins a generation: without one Redis has lost what it held, unless it is a new one.
local function begin_generation(generation, asked_now, clock, ttl, is_new)
    call('HSET', META, 'g', generation, 'epoch', plain(epoch), 'turn', plain(turn), 'count', 0)
    recount()
    must_recount = true
    call('ZADD', MARKS, '+inf', '')
    if is_new then
        used_up = ''
        call('HDEL', META, 'used', 'shut')
        return 0
    end
    used_up = asked_now ~= '' and asked_now or digits(clock)
    call('HSET', META, 'used', used_up)
    return shut_for(clock, ttl)
end

-- Takes the table of limits from the arguments, unless a later one counts. `before` is the time of the last lease.
local function configure(told, before)
    if revision and tonumber(told) < revision and call('HEXISTS', LIMITS, '') == 1 then
        return
    end
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

-- Whether there is anything ready with gates now.
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
local function check_leases(session, shut_until, clock, ttl)
    local is_known = false
    for _, other in ipairs(call('ZRANGE', SESSIONS, 0, -1)) do
        is_known = is_known or other == session
        if call('EXISTS', held_by(other)) == 0 then
            is_shut = true
        end
    end
    is_shut = is_shut or not is_known
    if is_shut and shut_until <= clock then
        shut_until = shut_for(clock, ttl)
    end
    must_recount = must_recount or is_shut or call('HEXISTS', SLOTS, '') == 0
    return shut_until
end

-- Looks at what has changed at the gates. `back` is by how much the clock was set back since the last lease.
local function look_at_gates(back)
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

-- Wakes one other process for what this one leaves lying. If that one leaves something in turn, it wakes the next.
local function wake_another(process, clock, ttl)
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

-- Ends the session and gives back what it holds.
local function close(session, process, clock)
    local held = held_by(session)
    local entries = call('HGETALL', held)
    for i = 1, #entries, 2 do
        if entries[i] ~= 'q' then
            end_lease(entries[i], epoch_in(entries[i + 1]), 'at once', clock)
        end
    end
    settle()
    call('DEL', held, base .. 'wake:' .. process)
    call('ZREM', SESSIONS, session)
    call('ZREM', HUNGRY, process)
end

-- When the next job is due that this process may have: `r` and its time for one that is ready.
local function next_due(limit, rooms, clock, shut_until)
    if limit > 0 then
        local closed = 0
        for _, room in pairs(rooms) do
            if room <= 0 then
                closed = closed + 1
            end
        end
        local idle = is_shut and has_gated and call('HLEN', READY) or 0
        for _, fn in ipairs(call('ZRANGE', TURNS, 0, closed + idle)) do
            if (rooms[fn] or limit) > 0 then
                local first = call('ZRANGE', ready_of(fn), 0, 0)[1]
                if first or not is_shut then
                    return 'r' .. (first and sub(first, 1, 15) or now)
                end
            end
        end
    end
    local due = call('ZRANGE', DUES, 0, 0, 'WITHSCORES')[2] or ''
    if is_gated() then
        local opens = call('ZRANGE', OPENS, 0, 0, 'WITHSCORES')[2]
        if opens and (due == '' or tonumber(opens) < tonumber(due)) then
            due = digits(tonumber(opens))
        end
        local shut = shut_until - clock
        if is_shut and now ~= '' and (due == '' or tonumber(now) + shut < tonumber(due)) then
            due = digits(tonumber(now) + max(1, shut))
        end
    end
    return due
end

-- Notes what has changed of the whole queue.
local function save(known_now, asked_now, epoch_given)
    local changes = {}
    if asked_now ~= '' and now ~= known_now then
        changes[1], changes[2] = 'now', now
    end
    if is_count_dirty then
        changes[#changes + 1] = 'count'
        changes[#changes + 1] = plain(count)
    end
    if is_turn_dirty then
        changes[#changes + 1] = 'turn'
        changes[#changes + 1] = plain(turn)
    end
    if epoch_given then
        changes[#changes + 1] = 'epoch'
        changes[#changes + 1] = plain(epoch)
    end
    if #changes > 0 then
        call('HSET', META, unpack(changes))
    end
    if must_recount then
        recount_slots()
    end
    save_gates()
end

-- The exchange. A full Redis runs it with `is_full` only: jobs are the one thing to refuse then, for without all else nothing
-- would ever end.
local function exchange(keys, given, is_full)
    begin(keys)
    args, at = given, 0

    local proposed, process, session, number, flags = arg(), arg(), arg(), tonumber(arg()), arg()
    local ttl, asked_now, wanted, limit = tonumber(arg()), arg(), tonumber(arg()), tonumber(arg())
    local capacity, share, epoch_seen, held_count = tonumber(arg()), tonumber(arg()), tonumber(arg()), tonumber(arg())
    local answered, told, back = tonumber(arg()), arg(), tonumber(arg())
    local has = {}
    for flag in gmatch(flags, '.') do
        has[flag] = true
    end

    local time = call('TIME')
    local clock = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)

    -- Epochs and turns begin above all that were given before, and are never behind the clock, so that they rise on after
    -- Redis has come back as it was some time ago.
    local seed = tonumber(time[1]) * 1000000 + tonumber(time[2])
    local meta = call('HMGET', META, 'g', 'now', 'epoch', 'turn', 'count', 'rev', 'shut', 'used')
    local generation = meta[1]
    local shut_until = tonumber(meta[7] or 0)
    begin_gates(tonumber(meta[6] or ''), meta[8] or '')
    now, epoch, turn, count = meta[2] or '', tonumber(meta[3]), tonumber(meta[4]), tonumber(meta[5])
    if not (generation and epoch and turn and count) then
        generation, epoch, turn = proposed, seed, seed
        -- Others may hold leases that Redis does not know of, until they have said so or their time is up.
        shut_until = begin_generation(generation, asked_now, clock, ttl, has.v)
    end
    epoch = max(epoch, seed, epoch_seen)

    -- The session.
    local held = held_by(session)
    local last = tonumber(call('HGET', held, 'q') or '')
    if last and number <= last then
        return { 'stale', generation }
    elseif not last and not has.o then
        return { 'unknown', generation, plain(call('EXISTS', reaped_mark(session))) }
    end
    local notes = ''
    must_recount = must_recount or not last
    if last and last < answered then
        -- It came back as it was some time ago, and leases given since are missing.
        notes = 'f'
        shut_until = shut_for(clock, ttl)
    end
    is_shut = clock < shut_until
    call('HSET', held, 'q', plain(number))
    if has.o or has.b then
        call('ZADD', SESSIONS, clock + ttl, session)
        call('PEXPIRE', held, 86400000)
    end

    -- The lists.
    local rooms, blocked = {}, 0
    for _ = 1, tonumber(arg()) do
        local fn, room = arg(), tonumber(arg())
        rooms[fn] = room
        if room <= 0 then
            blocked = blocked + 1
        end
    end
    local ends = tonumber(arg())
    local ends_at = list_of(ends, 3)
    local forgets = tonumber(arg())
    local forgets_at = list_of(forgets, 1)
    local helds = tonumber(arg())
    local helds_at = list_of(helds, 4)
    local pushes = tonumber(arg())
    local pushes_at = list_of(pushes, 3)

    local before = now
    if asked_now ~= '' then
        now = asked_now
    end
    if has.c then
        configure(told, before)
    elseif told ~= '' and (not revision or revision < tonumber(told)) then
        notes = notes .. 'c'
    end

    for i = ends_at, ends_at + ends * 3 - 1, 3 do
        local due = args[i + 2]
        if due == 'in vain' then
            return_turn(args[i], args[i + 1])
            due = nil
        elseif due == '' then
            due = nil
        end
        end_lease(args[i], args[i + 1], due, clock)
    end
    for i = forgets_at, forgets_at + forgets - 1 do
        forget(args[i])
    end

    local lost = {}
    if has.s then
        local list = {}
        for i = helds_at, helds_at + helds * 4 - 1 do
            list[#list + 1] = args[i]
        end
        lost = reconcile(session, list, has.n, clock)
    end

    if has.b then
        if call('HLEN', held) - 1 ~= held_count and not has.s then
            notes = notes .. 'm'
        end
        call('ZREMRANGEBYSCORE', GONE, '-inf', clock - 60000)
    end
    local reaped, expiry = 0, earliest_expiry(session)
    if expiry and expiry <= clock then
        local gone
        reaped, gone = reap(session, clock)
        expiry = earliest_expiry(session)
        if gone > 0 then
            notes = notes .. 'd'
        end
    end

    local pushed, has_due = '', false
    if pushes > 0 and is_full then
        pushed = string.rep('0', pushes)
    elseif pushes > 0 then
        pushed, has_due = push(args, pushes_at, pushes, session, capacity, share, clock, ttl)
    end

    settle()
    local leases = {}
    if has.l then
        promote()
        if back > 0 then
            -- Throttles go by the clock that was set.
            revise_marks('', function(mark) return mark - back * 1000 end)
        end
        if is_gated() then
            shut_until = check_leases(session, shut_until, clock, ttl)
            look_at_gates(back)
        end
        local left
        leases, left = lease(wanted, limit, rooms, blocked, session)
        if wanted > 0 and left > 0 then
            call('ZADD', HUNGRY, clock, process)
        elseif wanted > 0 then
            call('ZREM', HUNGRY, process)
        end
    elseif has.b and has.h then
        call('ZADD', HUNGRY, clock, process)
    end

    local has_left = has.l and call('EXISTS', TURNS) == 1
    if has_left or reaped > 0 or (has_due and has.w) then
        wake_another(process, clock, ttl)
    end
    if has.x then
        close(session, process, clock)
    end

    save(meta[2], asked_now, #leases > 0)
    if lacks_limits and told ~= '' and not has.c then
        notes = notes .. 'c'
    end
    local _, refused = string.gsub(pushed, '0', '')
    if refused > 0 then
        call('HINCRBY', META, 'spilled', refused)
    end

    local due = next_due(limit, rooms, clock, shut_until)
    local patience = expiry and plain(max(0, expiry - clock)) or ''
    return { 'ok', generation, due, plain(count), now, notes, pushed, lost, leases, plain(reaped), patience }
end

