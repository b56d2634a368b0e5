#!lua flags=allow-oom
-- Record a failed attempt. ARGV: id, fence, error (JSON), delay ms, 1 = never again.
-- Returns delayed or dead, also when this very lease was recorded before, or 0 when it is stale.
local id, fence = ARGV[1], ARGV[2]
local f = redis.call('HMGET', key(id), 's', 'n', 'a', 'm')
if not holds(id, fence) then
  local recorded = f[2] == fence and redis.call('HEXISTS', key(id), 'err:' .. f[3]) == 1
  return recorded and (f[1] == 'dead' and 'dead' or 'delayed') or 0
end
local t = now()
ran(id, t)
redis.call('ZREM', LEASES, id)
redis.call('HSET', key(id), 'err:' .. f[3], ARGV[3])
if ARGV[5] == '1' or tonumber(f[3]) >= tonumber(f[4]) then
  bury(id, t)
  return 'dead'
end
redis.call('ZADD', DELAYED, int(t + tonumber(ARGV[4])), id)
redis.call('HSET', key(id), 's', 'delayed')
if redis.call('ZRANGE', DELAYED, 0, 0)[1] == id then
  wake()
end
return 'delayed'
