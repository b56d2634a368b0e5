#!lua flags=allow-oom
-- Renew leases. ARGV: id, fence, id, fence, ... Returns 1 (renewed) or 0 (lost) for each.
local t, answers = now(), {}
for i = 1, #ARGV, 2 do
  local held = holds(ARGV[i], ARGV[i + 1])
  if held then
    redis.call('ZADD', LEASES, int(t + tonumber(redis.call('HGET', key(ARGV[i]), 'l'))), ARGV[i])
  end
  answers[#answers + 1] = held and 1 or 0
end
return answers
