#!lua
-- Bring dead tasks back with all their attempts. ARGV: ids. Returns how many came back.
local t, revived = now(), 0
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', DEAD, id) == 1 then
    local f = redis.call('HMGET', key(id), 'p', 'u', 'a')
    redis.call('HSET', key(id), 'a', 0, 'w', '')
    redis.call('HDEL', key(id), 'f', 'st', 'la')
    for attempt = 1, tonumber(f[3]) do
      redis.call('HDEL', key(id), 'err:' .. attempt)
    end
    if f[2] then
      redis.call('SET', T .. ':unique:' .. f[2], id, 'NX')
    end
    make_ready(id, order(tonumber(f[1])), t)
    revived = revived + 1
  end
end
if revived > 0 then
  wake()
end
return revived
