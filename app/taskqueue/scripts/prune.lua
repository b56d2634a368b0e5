#!lua flags=allow-oom
-- Forget dead tasks. ARGV: ms of the epoch, then ids; those that died later, or are not dead any
-- more, stay. Returns how many went.
local before, gone = tonumber(ARGV[1]), 0
for i = 2, #ARGV do
  local id = ARGV[i]
  local died = tonumber(redis.call('ZSCORE', DEAD, id) or before + 1)
  if died <= before then
    redis.call('ZREM', DEAD, id)
    redis.call('DEL', key(id), body(id))
    gone = gone + 1
  end
end
return gone
