-- Says what became of what was lent. KEYS: base, log, lent. ARGV: verb, group,
-- arrived or back, epoch, offsets.
local base, log, lent = unpack(KEYS)
local verb, group, outcome = ARGV[1], ARGV[2], ARGV[3]
together(verb)
if redis.call('HGET', base, 'epoch') ~= ARGV[4] then return 0 end
for at = 5, #ARGV do
  local offset = ARGV[at]
  if outcome == 'arrived' then
    redis.call('ZREM', lent, offset)
    if group == 'once' and redis.call('XDEL', log, offset .. '-0') == 1 then
      -- Whoever finds it missing knows that it was not trimmed.
      local removed = tonumber(redis.call('HGET', base, 'removed') or 0)
      redis.call('HSET', base, 'removed', int(math.max(removed, tonumber(offset))))
    end
  elseif entry_at(log, offset) then
    redis.call('ZADD', lent, 0, offset)
  else
    redis.call('ZREM', lent, offset)
  end
end
if outcome == 'back' then redis.call(verb, base, '{"back":true}') end
return 1
