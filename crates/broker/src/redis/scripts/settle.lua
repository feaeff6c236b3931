-- Says what became of what was lent. KEYS: base, log, lent. ARGV: verb, group,
-- arrived or back, and an epoch and an offset for each.
local base, log, lent = unpack(KEYS)
local verb, group, outcome = ARGV[1], ARGV[2], ARGV[3]
together(verb)
local epoch = redis.call('HGET', base, 'epoch')
for at = 4, #ARGV, 2 do
  local offset = ARGV[at + 1]
  if ARGV[at] ~= epoch then
    -- Of another life of the stream, where it has no meaning.
  elseif outcome == 'arrived' then
    redis.call('ZREM', lent, offset)
    if group == 'once' and redis.call('XDEL', log, offset .. '-0') == 1 then
      -- Whoever finds it missing knows that it was not trimmed.
      local removed = tonumber(redis.call('HGET', base, 'removed') or 0)
      redis.call('HSET', base, 'removed', int(math.max(removed, tonumber(offset))))
    end
  else
    -- What is not lent any more has arrived, and does not come back.
    redis.call('ZADD', lent, 'XX', 0, offset)
  end
end
if outcome == 'back' then redis.call(verb, base, '{"back":true}') end
return 1
