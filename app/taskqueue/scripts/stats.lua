#!lua flags=no-writes
-- Returns {ready, delayed, due, leased, ended leases, dead, ms since the oldest became ready or due,
-- paused, {how many ms the latest attempts took}}.
local t = now()
local oldest = 0
for _, first in ipairs({ redis.call('ZRANGE', AGE, 0, 0, 'WITHSCORES'),
  redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES') }) do
  oldest = math.max(oldest, t - tonumber(first[2] or t))
end
return {
  redis.call('ZCARD', READY), redis.call('ZCARD', DELAYED),
  redis.call('ZCOUNT', DELAYED, '-inf', int(t)), redis.call('ZCARD', LEASES),
  redis.call('ZCOUNT', LEASES, '-inf', int(t)), redis.call('ZCARD', DEAD),
  oldest, redis.call('EXISTS', T .. ':paused'), redis.call('LRANGE', T .. ':runs', 0, 99),
}
