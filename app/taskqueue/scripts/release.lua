#!lua flags=allow-oom
-- Give leases back unfinished: same place, the attempt does not count (the fence moves on).
-- ARGV: id, fence, id, fence, ... Returns how many were given back.
local t, given = now(), 0
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  if holds(id, ARGV[i + 1]) then
    local f = redis.call('HMGET', key(id), 'a', 'n', 'w', 'o')
    redis.call('ZREM', LEASES, id)
    redis.call('HSET', key(id), 'a', tonumber(f[1]) - 1, 'n', int(tonumber(f[2]) + 1),
      'w', string.match(f[3], '^(.*),[^,]*$') or '')
    make_ready(id, f[4], t)
    given = given + 1
  end
end
if given > 0 then
  wake()
end
return given
