-- The leases a run holds: key, epoch, since and version of each.
local out = {}
local fields = call('HGETALL', base .. 'j:' .. ARGV[1])
for i = 1, #fields, 2 do
    if sub(fields[i], 1, 1) ~= 'p' and sub(fields[i + 1], 1, 1) == 'L' then
        local job = parse(fields[i + 1])
        out[#out + 1] = fields[i]
        out[#out + 1] = job.epoch
        out[#out + 1] = job.since
        out[#out + 1] = job.version
    end
end
return out
