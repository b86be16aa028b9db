-- Numbers for people: in all, and by function ready, delayed, leased and the earliest due time of the ready ones.

-- Members looked at for the earliest due time, over all functions: lines are in the order of service, not of due times.
local MEMBERS_LOOKED_AT = 5000

local function stats(keys)
    begin(keys)
    begin_gates(nil, '')
    local partitions, order = {}, {}
    local function partition(fn)
        local found = partitions[fn]
        if not found then
            found = { 0, 0, 0, '' }
            partitions[fn] = found
            order[#order + 1] = fn
        end
        return found
    end

    local ready, delayed, leased, oldest_lease = 0, 0, 0, ''
    local turns = call('ZRANGE', TURNS, 0, -1)
    local each = max(10, floor(MEMBERS_LOOKED_AT / max(1, #turns)))
    for _, fn in ipairs(turns) do
        local length = call('ZCARD', ready_of(fn))
        if length > 0 then
            local of = partition(fn)
            of[1] = length
            ready = ready + length
            for _, member in ipairs(call('ZRANGE', ready_of(fn), 0, each - 1)) do
                local nb = sub(member, 1, 15)
                if of[4] == '' or nb < of[4] then
                    of[4] = nb
                end
            end
        end
    end
    local gated = call('HGETALL', READY)
    for i = 1, #gated, 2 do
        local fn, number = gated[i], tonumber(gated[i + 1])
        local of = partition(fn)
        of[1] = of[1] + number
        ready = ready + number
        local left = max(10, floor(MEMBERS_LOOKED_AT / (#gated / 2)))
        for _, tuple in ipairs(call('SMEMBERS', lines_of(fn))) do
            if left <= 0 then
                break
            end
            for _, member in ipairs(call('ZRANGE', line_of(fn, tuple), 0, left - 1)) do
                local nb = sub(member, 1, 15)
                if of[4] == '' or nb < of[4] then
                    of[4] = nb
                end
                left = left - 1
            end
        end
    end
    for _, fn in ipairs(call('ZRANGE', DUES, 0, -1)) do
        local length = call('ZCARD', delayed_of(fn))
        if length > 0 then
            partition(fn)[2] = length
            delayed = delayed + length
        end
    end
    for _, session in ipairs(call('ZRANGE', SESSIONS, 0, -1)) do
        local held = call('HGETALL', held_by(session))
        for i = 1, #held, 2 do
            if held[i] ~= 'q' then
                local bar = find(held[i + 1], '|', 1, true)
                local of = partition(sub(held[i + 1], bar + 1, bar + 36))
                local since = sub(held[i + 1], bar + 38)
                of[3] = of[3] + 1
                leased = leased + 1
                if oldest_lease == '' or since < oldest_lease then
                    oldest_lease = since
                end
            end
        end
    end

    local out = { plain(ready), plain(delayed), plain(leased), oldest_lease, call('HGET', META, 'spilled') or '0' }
    for _, fn in ipairs(order) do
        local of = partitions[fn]
        out[#out + 1] = fn
        for i = 1, 3 do
            out[#out + 1] = plain(of[i])
        end
        out[#out + 1] = of[4]
    end
    return out
end

