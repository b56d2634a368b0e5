#!lua flags=no-writes
-- Everything about a task. ARGV: id. Returns {} or {fields of its hash, envelope}.
local fields = redis.call('HGETALL', key(ARGV[1]))
if #fields == 0 then
  return {}
end
return { fields, redis.call('GET', body(ARGV[1])) or '' }
