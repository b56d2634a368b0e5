#!lua flags=no-writes
-- Returns {ready, delayed, due, leased, ended leases, dead, ms since the oldest became ready, paused}.
local t = now()
local oldest = redis.call('ZRANGE', AGE, 0, 0, 'WITHSCORES')
return {
  redis.call('ZCARD', READY), redis.call('ZCARD', DELAYED),
  redis.call('ZCOUNT', DELAYED, '-inf', int(t)), redis.call('ZCARD', LEASES),
  redis.call('ZCOUNT', LEASES, '-inf', int(t)), redis.call('ZCARD', DEAD),
  oldest[2] and t - tonumber(oldest[2]) or 0, redis.call('EXISTS', T .. ':paused'),
}
