#!lua
-- Put a task into the shard, once per id for ever (until its tombstone ends).
-- ARGV: id, priority, run after ms (0 = now), most attempts, lease ms, unique key ('' = none),
--       tombstone ms, envelope.
-- Returns the state: new, merged, or, when the id is known, the state it is in.
local id, run_after, unique = ARGV[1], tonumber(ARGV[3]), ARGV[6]
local known = redis.call('HGET', key(id), 's')
if known then
  -- Changes nothing, but is a write: WAIT counts the writes of its own connection, and the one that
  -- put the task here may have been another's, not replicated yet. The relay relies on it.
  redis.call('HSET', key(id), 's', known)
  if known == 'done' or known == 'merged' or known == 'cancelled' then
    forget_after(id, ARGV[7]) -- remembered for as long as its row keeps coming
  end
  return known
end
local t = now()
if unique ~= '' then
  local holder = redis.call('GET', T .. ':unique:' .. unique)
  if holder and holder ~= id and redis.call('EXISTS', key(holder)) == 1 then
    redis.call('HSET', key(id), 's', 'merged', 'into', holder, 't', int(t))
    redis.call('PEXPIRE', key(id), ARGV[7])
    return 'merged'
  end
  redis.call('SET', T .. ':unique:' .. unique, id)
  redis.call('HSET', key(id), 'u', unique)
end
redis.call('SET', body(id), ARGV[8])
redis.call('HSET', key(id), 'a', 0, 'n', 0, 'm', ARGV[4], 'l', ARGV[5], 'p', ARGV[2], 't', int(t))
if run_after > t then
  redis.call('ZADD', DELAYED, ARGV[3], id)
  redis.call('HSET', key(id), 's', 'delayed')
  if redis.call('ZRANGE', DELAYED, 0, 0)[1] == id then
    wake() -- a sleeping worker must learn of an earlier time
  end
else
  make_ready(id, order(tonumber(ARGV[2])), t)
  wake()
end
return 'new'
