-- Who is present: ids and what they say of themselves, one after the other.
local found, seen = {}, {}
local here = redis.call('ZRANGEBYSCORE', KEYS[3], string.format('(%.0f', millis()), '+inf')
for _, session in ipairs(here) do
  local id = redis.call('HGET', KEYS[2], 's:' .. session)
  if id and not seen[id] then
    seen[id] = true
    found[#found + 1] = id
  end
end
table.sort(found)
local answer = {}
for _, id in ipairs(found) do
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call('HGET', KEYS[2], 'i:' .. id) or 'null'
end
return answer
