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
local answered = tonumber(arg())
local function has(flag) return find(flags, flag, 1, true) ~= nil end

local time = call('TIME')
local clock = tonumber(time[1]) * 1000 + floor(tonumber(time[2]) / 1000)

-- The generation: without it Redis has lost what it held. Epochs and turns begin above all that were given before, and are
-- never behind the clock, so that they rise on after Redis has come back as it was some time ago.
local seed = tonumber(time[1]) * 1000000 + tonumber(time[2])
local meta = call('HMGET', META, 'g', 'now', 'epoch', 'turn', 'count')
local generation = meta[1]
now, epoch, turn, count = meta[2] or '', tonumber(meta[3]), tonumber(meta[4]), tonumber(meta[5])
local is_full = false
if not (generation and epoch and turn and count) then
    generation = proposed
    epoch, turn = seed, seed
    local made = pcall_('HSET', META, 'g', generation, 'epoch', plain(epoch), 'turn', plain(turn), 'count', 0)
    is_full = type(made) == 'table' and made.err ~= nil
    recount()
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
if last and last < answered then
    notes = 'f'
end

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
if asked_now ~= '' then
    now = asked_now
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

if has('b') then
    if call('HLEN', HELD) - 1 ~= held_count and not has('s') then
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
    pushed, has_due = push(pushes_at, pushes, session, capacity, share, clock, ttl)
end

settle()
local leases = {}
if has('l') then
    promote()
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
    for _, fn in ipairs(call('ZRANGE', TURNS, 0, closed)) do
        if (rooms[fn] or limit) > 0 then
            local first = call('ZRANGE', ready_of(fn), 0, 0)[1]
            next_due = 'r' .. (first and sub(first, 1, 15) or now)
            break
        end
    end
end
if next_due == '' then
    next_due = call('ZRANGE', DUES, 0, 0, 'WITHSCORES')[2] or ''
end

local patience = expiry and plain(max(0, expiry - clock)) or ''
return { 'ok', generation, next_due, plain(count), now, notes, pushed, lost, leases, plain(reaped), patience }
