-- Gates: lines of jobs with the same gates to pass, the slots that leases hold, throttles, and who waits where.
--
-- A *tuple* names a line: kind (1: `s` a slot of the function, `S` one that functions share, `t` a throttle), rule (8) and
-- bucket (32) of each gate, a throttle first. A line that may have room is in `q:<function>` and takes part in the
-- function's turn; a line found shut waits in `w:<bucket>:<function>`. Room that comes free is offered to the oldest line
-- that waits for it, and so is room that a line offered to could not use because it is shut elsewhere or has come to its
-- end. So for each free slot there is a line in `q` if any waits, and who is in `q` in vain is found out when it is tried.

local GATE = 41
local SLOTS, MARKS, OPENS, READY, LIMITS

local function line_of(fn, tuple) return base .. 'l:' .. fn .. ':' .. tuple end
local function lines_of(fn) return base .. 'g:' .. fn end
local function shown_of(fn) return base .. 'q:' .. fn end
local function waiting_at(bucket, fn) return base .. 'w:' .. bucket .. ':' .. fn end
local function waiting_fns(bucket) return base .. 'wf:' .. bucket end

-- Which table of limits counts (nil: none yet), and since when throttles that nothing is known of are taken for used up.
local revision, used_up
-- Whether nothing with gates is handed out for now.
local is_shut

-- Whether a table of limits was missed.
local lacks_limits
-- Whether a line was offered room since somebody looked.
local was_offered
-- Whether any function has ready jobs with gates, as the script begins.
local has_gated

local function now_ms() return tonumber(now) or 0 end

-- How many jobs of a function are ready and have gates.
local ready_counts, ready_known
local function gated_ready(fn)
    if not ready_known[fn] then
        ready_known[fn] = true
        ready_counts[fn] = has_gated and tonumber(call('HGET', READY, fn) or 0) or 0
    end
    return ready_counts[fn]
end

local ready_changed
local function count_ready(fn, by)
    ready_counts[fn] = max(0, gated_ready(fn) + by)
    ready_changed[fn] = true
end

-- The numbers of a function's rules, by rule: so many slots, or { interval, capacity }; `shut` if nothing passes. nil if they
-- are not there.
local limits_known
local function limits_of(fn)
    local known = limits_known[fn]
    if known == nil then
        known = false
        local found = call('HMGET', LIMITS, '', fn)
        if found[1] and revision then
            known = {}
            for rule, kind, one, two in gmatch(found[2] or '', '(%x+)(%a)(%d+):(%d+);') do
                known[rule] = kind == 's' and tonumber(one) or { tonumber(one), tonumber(two) }
            end
            known.shut = sub(found[2] or '', -1) == '!'
        else
            lacks_limits = true
        end
        limits_known[fn] = known
    end
    return known
end

-- Slots held in a bucket, and whether lines wait there.
local buckets, buckets_changed
local function bucket_of(id)
    local known = buckets[id]
    if not known then
        local text = call('HGET', SLOTS, id)
        if text and sub(text, -1) == 'w' then
            known = { held = tonumber(sub(text, 1, -2)), waits = true }
        else
            known = { held = tonumber(text or 0), waits = false }
        end
        buckets[id] = known
    end
    return known
end

local function load_buckets(ids)
    local missing = {}
    for _, id in ipairs(ids) do
        if not buckets[id] then
            buckets[id] = { held = 0, waits = false }
            missing[#missing + 1] = id
        end
    end
    for from = 1, #missing, 1000 do
        local upto = min(from + 999, #missing)
        local texts = call('HMGET', SLOTS, unpack(missing, from, upto))
        for i = from, upto do
            local text = texts[i - from + 1]
            if text then
                local waits = sub(text, -1) == 'w'
                buckets[missing[i]] = { held = tonumber(waits and sub(text, 1, -2) or text), waits = waits }
            end
        end
    end
end

-- The parts of tuples, three for each gate. Not kept for the next call: what stays is looked at by each collection of garbage.
local tuples
local function gates_of(tuple)
    local known = tuples[tuple]
    if not known then
        known = { sub(tuple, 1, 1), sub(tuple, 2, 9), sub(tuple, 10, 41) }
        for i = GATE + 1, #tuple, GATE do
            known[#known + 1] = sub(tuple, i, i)
            known[#known + 1] = sub(tuple, i + 1, i + 8)
            known[#known + 1] = sub(tuple, i + 9, i + 40)
        end
        tuples[tuple] = known
    end
    return known
end

local function buckets_in(tuple, into)
    local gates = gates_of(tuple)
    for i = 1, #gates, 3 do
        if gates[i] ~= 't' then
            into[#into + 1] = gates[i + 2]
        end
    end
end

-- The slots of a lease that begins or ends.
local function hold(tuple, by)
    local gates = gates_of(tuple)
    for i = 1, #gates, 3 do
        if gates[i] ~= 't' then
            local of = bucket_of(gates[i + 2])
            of.held = max(0, of.held + by)
            buckets_changed[gates[i + 2]] = true
        end
    end
end

-- The mark of a throttle, in microseconds, and the present.
local function mark_of(bucket, fn, rate)
    local found = call('ZMSCORE', MARKS, '', bucket .. fn)
    local clock = now_ms() * 1000
    if not found[1] then
        used_up = digits(now_ms())
        call('ZADD', MARKS, '+inf', '')
        call('HSET', META, 'used', used_up)
    end
    local mark = tonumber(found[2] or 0)
    if not found[2] and used_up ~= '' then
        mark = tonumber(used_up) * 1000 + rate[1] * rate[2]
    end
    return mark, clock
end

-- Changes all marks of a function, or of all.
local function revise_marks(fn, revise)
    local entries = call('ZRANGE', MARKS, 0, -1, 'WITHSCORES')
    for i = 1, #entries, 2 do
        local member = entries[i]
        if member ~= '' and (fn == '' or sub(member, 33) == fn) then
            call('ZADD', MARKS, plain(revise(tonumber(entries[i + 1]))), member)
        end
    end
end

-- When a throttle lets the next start through, in milliseconds.
local function opens_at(bucket, fn, rate)
    local mark = mark_of(bucket, fn, rate)
    return math.ceil((mark - rate[1] * (rate[2] - 1)) / 1000)
end

local function is_open(kind, rule, bucket, fn)
    local limits = limits_of(fn)
    if not limits or limits.shut then
        return false
    end
    local limit = limits[rule]
    if not limit then
        return true
    elseif kind == 't' then
        return opens_at(bucket, fn, limit) <= now_ms()
    end
    return bucket_of(bucket).held < limit
end

-- The first gate of a line that is shut: kind, rule, bucket.
local function first_shut(fn, tuple)
    local gates = gates_of(tuple)
    for i = 1, #gates, 3 do
        if not is_open(gates[i], gates[i + 1], gates[i + 2], fn) then
            return gates[i], gates[i + 1], gates[i + 2]
        end
    end
end

-- Lines to be shown or hidden, by function; done by `show`.
local to_show, to_lift, to_hide, to_list, to_strike
local function note(list, fn, a, b)
    local of = list[fn]
    if not of then
        of = {}
        list[fn] = of
    end
    of[#of + 1] = a
    if b then
        of[#of + 1] = b
    end
    ready_dirty[fn] = true
end

local function apply(command, key_of_fn, list)
    for fn, args in pairs(list) do
        for i = 1, #args, 1000 do
            local upto = min(i + 999, #args)
            call(command, key_of_fn(fn), unpack(args, i, upto))
        end
    end
end

-- Shows lines, those that are shown already not later than they are.
local function lift()
    for fn, args in pairs(to_lift) do
        for i = 1, #args, 1000 do
            call('ZADD', shown_of(fn), 'LT', unpack(args, i, min(i + 999, #args)))
        end
    end
end

-- Makes true what was noted. A line is hidden before it may be shown again under another rank.
local function show()
    apply('ZREM', shown_of, to_hide)
    apply('SREM', lines_of, to_strike)
    apply('ZADD', shown_of, to_show)
    lift()
    apply('SADD', lines_of, to_list)
    to_show, to_lift, to_hide, to_list, to_strike = {}, {}, {}, {}, {}
end

-- Has a line wait at a gate that is shut.
local function wait_at(kind, rule, bucket, fn, tuple, score)
    call('ZADD', waiting_at(bucket, fn), score, tuple)
    if kind == 't' then
        local limits = limits_of(fn)
        local rate = limits and not limits.shut and limits[rule]
        if rate then
            call('ZADD', OPENS, opens_at(bucket, fn, rate), rule .. bucket .. fn)
        end
    else
        if kind == 'S' then
            call('SADD', waiting_fns(bucket), fn)
        end
        local of = bucket_of(bucket)
        if not of.waits then
            of.waits = true
            buckets_changed[bucket] = true
        end
    end
end

-- Shows the oldest line of a function that waits at a gate, if that is open. Answers whether any waits on.
local function offer_to(kind, rule, bucket, fn)
    local key = waiting_at(bucket, fn)
    while true do
        local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
        if not first[1] then
            return false
        end
        local head = call('ZRANGE', line_of(fn, first[1]), 0, 0, 'WITHSCORES')
        if not head[1] then
            call('ZREM', key, first[1])
        elseif not is_open(kind, rule, bucket, fn) then
            return true
        else
            call('ZREM', key, first[1])
            note(to_show, fn, head[2], first[1])
            was_offered = true
            return call('EXISTS', key) == 1, head[2]
        end
    end
end

local next_turn
-- Offers what room a bucket has to the oldest lines that wait there: of a shared one, to those of each function, which come
-- back into the rotation in the order of their age.
local function offer(kind, rule, bucket, fn)
    if kind == 't' then
        if offer_to(kind, rule, bucket, fn) then
            local limits = limits_of(fn)
            local rate = limits and not limits.shut and limits[rule]
            if rate then
                call('ZADD', OPENS, opens_at(bucket, fn, rate), rule .. bucket .. fn)
            end
        end
        return
    end
    local of = bucket_of(bucket)
    if not of.waits then
        return
    end
    local waits = false
    if kind == 's' then
        waits = offer_to(kind, rule, bucket, fn)
    else
        local shown = {}
        for _, other in ipairs(call('SMEMBERS', waiting_fns(bucket))) do
            local more, score = offer_to(kind, rule, bucket, other)
            if more then
                waits = true
            else
                call('SREM', waiting_fns(bucket), other)
            end
            if score then
                shown[#shown + 1] = { tonumber(score), other }
            end
        end
        table.sort(shown, function(a, b) return a[1] < b[1] end)
        for _, entry in ipairs(shown) do
            if not call('ZSCORE', TURNS, entry[2]) then
                call('ZADD', TURNS, next_turn(), entry[2])
            end
        end
    end
    if of.waits ~= waits then
        of.waits = waits
        buckets_changed[bucket] = true
    end
end

-- Offers the room that a line leaves at its gates, but for one.
local function hand_on(fn, tuple, except)
    local gates = gates_of(tuple)
    for i = 1, #gates, 3 do
        local kind, bucket = gates[i], gates[i + 2]
        if bucket ~= except and (kind == 't' or bucket_of(bucket).waits) then
            offer(kind, gates[i + 1], bucket, fn)
        end
    end
end

-- Brings the place of a line in line with its first job and its gates.
local function place(fn, tuple)
    local head = call('ZRANGE', line_of(fn, tuple), 0, 0, 'WITHSCORES')
    ready_dirty[fn] = true
    if not head[1] then
        call('SREM', lines_of(fn), tuple)
        if call('ZREM', shown_of(fn), tuple) == 1 then
            hand_on(fn, tuple)
        end
        return
    end
    note(to_list, fn, tuple)
    local kind, rule, bucket = first_shut(fn, tuple)
    if not kind then
        note(to_show, fn, head[2], tuple)
        -- Its first job may be a later one than before, and the room is then another line's.
        hand_on(fn, tuple)
    else
        wait_at(kind, rule, bucket, fn, tuple, head[2])
        if call('ZREM', shown_of(fn), tuple) == 1 then
            hand_on(fn, tuple, bucket)
        end
    end
end

-- Lines that have changed since `settle`, by function: true, or the rank of the first of the jobs that have come in if that is
-- all.
local lines_dirty
local function touched(fn)
    local of = lines_dirty[fn]
    if not of then
        of = {}
        lines_dirty[fn] = of
    end
    return of
end

local function touch(fn, tuple)
    touched(fn)[tuple] = true
end

local function touch_new(fn, tuple, rank)
    local of = touched(fn)
    local known = of[tuple]
    if known == nil or (known ~= true and rank < known) then
        of[tuple] = rank
    end
end

-- Whether all gates are open and nobody waits at any, so that the line is shown already or was empty.
local function is_free(fn, tuple)
    local gates = gates_of(tuple)
    for i = 1, #gates, 3 do
        if gates[i] == 't' or bucket_of(gates[i + 2]).waits or not is_open(gates[i], gates[i + 1], gates[i + 2], fn) then
            return false
        end
    end
    return true
end

local function touch_all(fn)
    local ready = 0
    for _, tuple in ipairs(call('SMEMBERS', lines_of(fn))) do
        touch(fn, tuple)
        ready = ready + call('ZCARD', line_of(fn, tuple))
    end
    count_ready(fn, ready - gated_ready(fn))
end

-- Functions and tuples of leases that have ended since `settle`: what they held is given back all at once.
local freed

local function give_back()
    local ids = {}
    for i = 2, #freed, 2 do
        buckets_in(freed[i], ids)
    end
    load_buckets(ids)
    for i = 2, #freed, 2 do
        hold(freed[i], -1)
    end
    local of = freed
    freed = {}
    for i = 1, #of, 2 do
        hand_on(of[i], of[i + 1])
    end
end

local function settle_lines()
    if freed[1] then
        give_back()
    end
    if next(lines_dirty) == nil then
        if next(to_show) ~= nil then
            show()
        end
        return
    end
    local ids = {}
    for _, tuples in pairs(lines_dirty) do
        for tuple in pairs(tuples) do
            buckets_in(tuple, ids)
        end
    end
    load_buckets(ids)
    local dirty = lines_dirty
    lines_dirty = {}
    for fn, tuples in pairs(dirty) do
        for tuple, rank in pairs(tuples) do
            if rank ~= true and is_free(fn, tuple) then
                note(to_list, fn, tuple)
                note(to_lift, fn, rank, tuple)
            else
                place(fn, tuple)
            end
        end
    end
    show()
end

-- Counts the slots anew, from the leases of all sessions.
local must_recount
local function recount_slots()
    must_recount = false
    local waits = {}
    local entries = call('HGETALL', SLOTS)
    for i = 1, #entries, 2 do
        local id = entries[i]
        if id ~= '' then
            local known = buckets[id]
            waits[id] = known and known.waits or (not known and sub(entries[i + 1], -1) == 'w') or nil
        end
    end
    for id, known in pairs(buckets) do
        waits[id] = known.waits or nil
    end
    buckets, buckets_changed, freed = {}, {}, {}
    call('DEL', SLOTS)
    call('HSET', SLOTS, '', '1')
    for _, session in ipairs(call('ZRANGE', SESSIONS, 0, -1)) do
        local held = call('HGETALL', held_by(session))
        for i = 1, #held, 2 do
            local record = held[i] ~= 'q' and call('HGET', run_of(held[i]), key_of(held[i]))
            local job = record and parse(record)
            if job and not job.waits then
                hold(tuple_of(job.version, false), 1)
            end
        end
    end
    for id in pairs(waits) do
        bucket_of(id).waits = true
        buckets_changed[id] = true
    end
end

-- Writes back what was counted.
local function save_gates()
    local set, gone = {}, {}
    for id in pairs(buckets_changed) do
        local of = buckets[id]
        if of.held == 0 and not of.waits then
            gone[#gone + 1] = id
        else
            set[#set + 1] = id
            set[#set + 1] = of.held .. (of.waits and 'w' or '')
        end
    end
    for i = 1, #gone, 1000 do
        call('HDEL', SLOTS, unpack(gone, i, min(i + 999, #gone)))
    end
    for i = 1, #set, 1000 do
        call('HSET', SLOTS, unpack(set, i, min(i + 999, #set)))
    end
    for fn in pairs(ready_changed) do
        if ready_counts[fn] == 0 then
            call('HDEL', READY, fn)
        else
            call('HSET', READY, fn, plain(ready_counts[fn]))
        end
    end
    buckets_changed, ready_changed = {}, {}
end

-- `table_known` is the revision of the table that counts, `used` since when throttles are taken for used up.
local function begin_gates(table_known, used)
    SLOTS, MARKS, OPENS = base .. 'slots', base .. 'marks', base .. 'opens'
    READY, LIMITS = base .. 'ready', base .. 'limits'
    revision, used_up = table_known, used
    is_shut, lacks_limits, was_offered, must_recount = false, false, false, false
    ready_counts, ready_known, ready_changed, limits_known = {}, {}, {}, {}
    buckets, buckets_changed, lines_dirty, tuples, freed = {}, {}, {}, {}, {}
    to_show, to_lift, to_hide, to_list, to_strike = {}, {}, {}, {}, {}
    has_gated = call('EXISTS', READY) == 1
end

