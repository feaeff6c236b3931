-- ARGV: node, its report or nothing to take it back, milliseconds after which a node that is
-- silent is forgotten, whether to look for those.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if ARGV[4] == '1' then
  local all = redis.call('HGETALL', KEYS[1])
  for at = 1, #all, 2 do
    local seen = tonumber(string.match(all[at + 1], '^%d+')) or 0
    if now - seen > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[at]) end
  end
end
return 1
