-- Returns the time in milliseconds, and then of every node its name and what it said when.
local time = redis.call('TIME')
local all = redis.call('HGETALL', KEYS[1])
table.insert(all, 1, string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return all
