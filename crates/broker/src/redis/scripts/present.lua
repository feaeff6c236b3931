-- Who is present: ids and what they say of themselves, one after the other.
local answer, seen = {}, {}
local here = redis.call('ZRANGEBYSCORE', KEYS[3], string.format('(%.0f', millis()), '+inf')
for _, session in ipairs(here) do
  local id = redis.call('HGET', KEYS[2], 's:' .. session)
  if id and not seen[id] then
    seen[id] = true
    answer[#answer + 1] = id
    answer[#answer + 1] = redis.call('HGET', KEYS[2], 'i:' .. id) or 'null'
  end
end
return answer
