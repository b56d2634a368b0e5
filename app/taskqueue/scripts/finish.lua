#!lua flags=allow-oom
-- Record success. ARGV: id, fence, result (JSON), tombstone ms.
-- Returns 1, also when this very lease had finished it before (a repeated call), else 0.
local id, fence = ARGV[1], ARGV[2]
if not holds(id, fence) then
  local f = redis.call('HMGET', key(id), 's', 'n')
  return (f[1] == 'done' and f[2] == fence) and 1 or 0
end
local t = now()
ran(id, t)
redis.call('ZREM', LEASES, id)
redis.call('HSET', key(id), 's', 'done', 'r', ARGV[3], 'f', int(t))
release_unique(id)
redis.call('HDEL', key(id), 'l', 'o', 'm', 'p', 'u')
forget_after(id, ARGV[4])
return 1
