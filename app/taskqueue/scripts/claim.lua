#!lua flags=allow-oom
-- Take back ended leases, promote what is due, then lease up to ARGV[1] tasks to worker ARGV[2].
-- Each of the three handles at most ARGV[3] tasks per call.
-- Returns {ms until the next due task or -1, taken back, ids that died, {leased, envelope} ...},
-- leased = "id fence attempt lease-ms waited-ms enqueued-ms started-ms workers", one string because
-- clients are slow at parsing many.
local wanted, worker, limit = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local t = now()
local back, died, leased = 0, {}, {}

for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', int(t), 'LIMIT', 0, limit)) do
  redis.call('ZREM', LEASES, id)
  local f = redis.call('HMGET', key(id), 'a', 'm', 'o')
  if f[1] then
    back = back + 1
    if tonumber(f[1]) >= tonumber(f[2]) then
      redis.call('HSET', key(id), 'err:' .. f[1],
        '["app.taskqueue.worker.WorkerLost","The worker ended, or was cut off, while it ran this task."]')
      bury(id, t)
      died[#died + 1] = id
    else
      make_ready(id, f[3], t)
    end
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', DELAYED, '-inf', int(t), 'LIMIT', 0, limit)) do
  redis.call('ZREM', DELAYED, id)
  local priority = redis.call('HGET', key(id), 'p')
  if priority then
    make_ready(id, order(tonumber(priority)), t)
  end
end

if redis.call('EXISTS', T .. ':paused') == 1 then
  wanted = 0
end
local popped = wanted > 0 and redis.call('ZPOPMIN', READY, math.min(wanted, limit)) or {}
for i = 1, #popped, 2 do
  local id = popped[i]
  local f = redis.call('HMGET', key(id), 'a', 'n', 'l', 'w', 't', 'st')
  local since = tonumber(redis.call('ZSCORE', AGE, id) or t)
  redis.call('ZREM', AGE, id)
  if f[1] then
    local attempt, fence = tonumber(f[1]) + 1, tonumber(f[2]) + 1
    local workers = (f[4] and f[4] ~= '') and (f[4] .. ',' .. worker) or worker
    local started = f[6] or int(t)
    redis.call('ZADD', LEASES, int(t + tonumber(f[3])), id)
    redis.call('HSET', key(id), 's', 'leased', 'a', attempt, 'n', fence, 'w', workers,
      'st', started, 'la', int(t))
    leased[#leased + 1] = { table.concat({ id, int(fence), attempt, f[3], int(t - since), f[5],
      started, workers }, ' '), redis.call('GET', body(id)) or '' }
  end
end

if redis.call('EXISTS', T .. ':paused') == 0 and redis.call('ZCARD', READY) > 0 then
  wake() -- more than this worker takes: wake the next one
end
local due = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
return { due[2] and math.max(tonumber(due[2]) - t, 0) or -1, back, died, leased }
