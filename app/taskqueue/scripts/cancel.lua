#!lua flags=allow-oom
-- Take a task out for good; its tombstone refuses later pushes of it, and its lease, if one runs.
-- ARGV: id, tombstone ms, states it may be in (by comma), error (JSON; '' keeps those it has),
--       its envelope if its outbox row was just deleted, else ''.
-- Returns {1, the state it was in}, or {0, its state, '' when nothing is known}.
local id = ARGV[1]
local state = redis.call('HGET', key(id), 's')
if not state then
  if ARGV[5] == '' then
    return { 0, '' }
  end
  state = 'outbox' -- a push of it may still be on its way
  redis.call('SET', body(id), ARGV[5])
  redis.call('HSET', key(id), 'a', 0, 'n', 0, 't', int(now()))
elseif not string.find(',' .. ARGV[3] .. ',', ',' .. state .. ',', 1, true) then
  return { 0, state }
end
for _, set in ipairs({ READY, AGE, DELAYED, LEASES, DEAD }) do
  redis.call('ZREM', set, id)
end
release_unique(id)
redis.call('HSET', key(id), 's', 'cancelled', 'f', int(now()))
redis.call('HINCRBY', key(id), 'n', 1) -- a lease that runs is stale now
if ARGV[4] ~= '' then
  redis.call('HSET', key(id), 'err:' .. redis.call('HGET', key(id), 'a'), ARGV[4])
end
redis.call('HDEL', key(id), 'l', 'o', 'm', 'p', 'u')
forget_after(id, ARGV[2])
return { 1, state }
