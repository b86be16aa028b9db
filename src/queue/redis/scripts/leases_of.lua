-- The leases a run holds: key, epoch, since, version, and whether nobody had the job before.
local function leases_of(keys, given)
    begin(keys)
    local out = {}
    local fields = call('HGETALL', base .. 'j:' .. given[1])
    for i = 1, #fields, 2 do
        if sub(fields[i], 1, 1) ~= 'p' and sub(fields[i + 1], 1, 1) == 'L' then
            local job = parse(fields[i + 1])
            out[#out + 1] = fields[i]
            out[#out + 1] = job.epoch
            out[#out + 1] = job.since
            out[#out + 1] = job.version
            out[#out + 1] = job.origin == job.session and '1' or '0'
        end
    end
    return out
end

