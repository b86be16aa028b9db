-- What is going on at the gates of a function: for each bucket its kind, rule, slots held, jobs that wait, the oldest of them
-- and, for a throttle, when it opens; with the gates of one of its jobs, to know the key by.

-- Lines and leases looked at, so that Redis is never busy for long.
local LINES_LOOKED_AT = 20000

local function flow(keys, given)
    begin(keys)
    local fn = given[1]
    local meta = call('HMGET', META, 'now', 'rev', 'used')
    now = meta[1] or '0'
    begin_gates(tonumber(meta[2] or ''), meta[3] or '')

    local found_by, order = {}, {}
    local function key(kind, rule, bucket)
        local found = found_by[bucket]
        if not found then
            found = { kind = kind, rule = rule, waiting = 0, oldest = '', field = nil }
            found_by[bucket] = found
            order[#order + 1] = bucket
        end
        return found
    end

    local left = LINES_LOOKED_AT
    for _, tuple in ipairs(call('SMEMBERS', lines_of(fn))) do
        left = left - 1
        if left <= 0 then
            break
        end
        local line = line_of(fn, tuple)
        local first, waiting = call('ZRANGE', line, 0, 0)[1], call('ZCARD', line)
        if first then
            local gates = gates_of(tuple)
            for j = 1, #gates, 3 do
                local of = key(gates[j], gates[j + 1], gates[j + 2])
                of.waiting = of.waiting + waiting
                -- Runs' ids sort by their creation.
                local field = sub(first, 16)
                if of.oldest == '' or field < of.oldest then
                    of.oldest = field
                end
                of.field = field
            end
        end
    end
    for _, session in ipairs(call('ZRANGE', SESSIONS, 0, -1)) do
        local held = call('HGETALL', held_by(session))
        for i = 1, #held, 2 do
            local bar = held[i] ~= 'q' and find(held[i + 1], '|', 1, true)
            if bar and sub(held[i + 1], bar + 1, bar + 36) == fn and left > 0 then
                left = left - 1
                local record = call('HGET', run_of(held[i]), key_of(held[i]))
                local job = record and parse(record)
                if job then
                    local gates = gates_of(tuple_of(job.version, true))
                    for j = 1, #gates, 3 do
                        local of = key(gates[j], gates[j + 1], gates[j + 2])
                        of.field = of.field or held[i]
                    end
                end
            end
        end
    end

    local out = {}
    local limits = limits_of(fn)
    for _, bucket in ipairs(order) do
        local of = found_by[bucket]
        local record = call('HGET', run_of(of.field), key_of(of.field))
        local version = record and parse(record).version or ''
        local rate = limits and not limits.shut and limits[of.rule]
        local opens = ''
        if of.kind == 't' and of.waiting > 0 and type(rate) == 'table' then
            local at = opens_at(bucket, fn, rate)
            opens = at > now_ms() and digits(at) or ''
        end
        out[#out + 1] = of.kind
        out[#out + 1] = of.rule
        out[#out + 1] = bucket
        out[#out + 1] = plain(of.kind == 't' and 0 or bucket_of(bucket).held)
        out[#out + 1] = plain(of.waiting)
        out[#out + 1] = sub(of.oldest, 1, 26)
        out[#out + 1] = opens
        out[#out + 1] = sub(version, 67, 67) == 'g' and sub(version, 68) or ''
    end
    return out
end

