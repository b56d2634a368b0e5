-- Shared by all scripts (the loader puts it below their first line). KEYS[1] is the hash tag of one
-- shard of one queue, `{prefix:t:queue:n}`; every key is built from it, so a script stays in a slot:
--   :ready    zset  id -> order       :task:<id>    hash, the task
--   :delayed  zset  id -> due ms      :unique:<key> the id that holds a unique key
--   :leases   zset  id -> end ms      :seq          counter, FIFO inside a priority
--   :age      zset  id -> ready since :wake         list of at most one token, wakes one worker
--   :dead     zset  id -> died ms     :paused       exists = nothing is claimed
--   :runs     list, how many ms the latest attempts took, newest first
--   :body:<id> string, the envelope, apart from the hash: without long values a hash is stored in
--              a third of the memory
-- Task hash: s state (ready, delayed, leased, done, dead, merged, cancelled) · a attempts · m most ·
-- n number of the lease (the fence) · l lease ms · o order · p priority · t enqueued · st started ·
-- la last attempt · f finished · w workers, by comma · r result · u unique key ·
-- err:<attempt> error · into id it was merged into.
local T = KEYS[1]
local READY, DELAYED, LEASES = T .. ':ready', T .. ':delayed', T .. ':leases'
local AGE, DEAD, WAKE = T .. ':age', T .. ':dead', T .. ':wake'

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function int(x)
  return string.format('%.0f', x)
end

local function key(id)
  return T .. ':task:' .. id
end

local function body(id)
  return T .. ':body:' .. id
end

local function wake()
  if redis.call('LLEN', WAKE) == 0 then
    redis.call('LPUSH', WAKE, '1')
  end
end

-- 201 priorities of 1e13 places each stay below 2^53, so the order is exact.
local function order(priority)
  return int((100 - priority) * 1e13 + redis.call('INCR', T .. ':seq'))
end

local function make_ready(id, place, t)
  redis.call('ZADD', READY, place, id)
  redis.call('ZADD', AGE, int(t), id)
  redis.call('HSET', key(id), 's', 'ready', 'o', place)
end

local function release_unique(id)
  local unique = redis.call('HGET', key(id), 'u')
  if unique then
    local holder = T .. ':unique:' .. unique
    if redis.call('GET', holder) == id then
      redis.call('DEL', holder)
    end
  end
end

-- An attempt ended. The list is cut only now and then: 100 to 200 entries.
local function ran(id, t)
  local claimed = redis.call('HGET', key(id), 'la')
  if claimed and redis.call('LPUSH', T .. ':runs', int(t - tonumber(claimed))) > 200 then
    redis.call('LTRIM', T .. ':runs', 0, 99)
  end
end

local function forget_after(id, ms)
  redis.call('PEXPIRE', key(id), ms)
  redis.call('PEXPIRE', body(id), ms)
end

local function bury(id, t)
  redis.call('ZADD', DEAD, int(t), id)
  redis.call('HSET', key(id), 's', 'dead', 'f', int(t))
  release_unique(id)
end

-- The lease `fence` of a task is the one now running.
local function holds(id, fence)
  local f = redis.call('HMGET', key(id), 's', 'n')
  return f[1] == 'leased' and f[2] == fence
end
