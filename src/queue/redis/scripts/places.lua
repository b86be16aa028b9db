-- Where the jobs of a run stand that are due and wait: name, version, the bucket of the gate that is shut, when that opens if it is
-- a throttle, and how many go before it; at most so many are counted, and nothing is said where that can't be told.

-- How many jobs of a line go before a member of that rank.
local function ahead_in(line, rank, member, most)
    local count = call('ZCOUNT', line, '-inf', '(' .. rank)
    if count < most then
        for _, other in ipairs(call('ZRANGEBYSCORE', line, rank, rank, 'LIMIT', 0, most)) do
            if other >= member then
                break
            end
            count = count + 1
        end
    end
    return min(count, most)
end

-- The same over all lines of a function that have to pass a gate; nil if there are too many to look at.
local function ahead_at(fn, bucket, rank, member, most)
    local ahead, left = 0, LINES_LOOKED_AT
    for _, tuple in ipairs(call('SMEMBERS', lines_of(fn))) do
        left = left - 1
        if left < 0 then
            return nil
        end
        if find(tuple, bucket, 1, true) then
            ahead = ahead + ahead_in(line_of(fn, tuple), rank, member, most - ahead)
            if ahead >= most then
                break
            end
        end
    end
    return ahead
end

local function places(keys, given)
    begin(keys)
    local meta = call('HMGET', META, 'now', 'rev', 'used')
    now = meta[1] or '0'
    begin_gates(tonumber(meta[2] or ''), meta[3] or '')
    local run, most = given[1], tonumber(given[2])

    local out = {}
    local records = call('HGETALL', base .. 'j:' .. run)
    for i = 1, #records, 2 do
        local job = sub(records[i], 1, 1) ~= 'p' and parse(records[i + 1])
        if job and job.waits and job.nb <= now then
            local field, fn = run .. records[i], function_of(job.version)
            local tuple, rank = tuple_of(job.version, job.started), rank_of(job.version)
            local member, opens, ahead = job.nb .. field, '', nil
            local kind, rule, bucket
            if tuple == '' then
                ahead = ahead_in(ready_of(fn), rank, member, most)
            else
                kind, rule, bucket = first_shut(fn, tuple)
                if not kind then
                    ahead = ahead_in(line_of(fn, tuple), rank, member, most)
                elseif kind ~= 'S' then
                    ahead = ahead_at(fn, bucket, rank, member, most)
                end
            end
            local limits = kind == 't' and limits_of(fn)
            local rate = limits and not limits.shut and limits[rule]
            if type(rate) == 'table' then
                local at = opens_at(bucket, fn, rate)
                opens = at > now_ms() and digits(at) or ''
            end
            out[#out + 1] = field
            out[#out + 1] = job.version
            out[#out + 1] = bucket or ''
            out[#out + 1] = opens
            out[#out + 1] = ahead and plain(ahead) or ''
        end
    end
    return out
end
