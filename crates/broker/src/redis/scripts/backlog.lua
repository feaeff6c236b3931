-- How many wait for a group of readers. KEYS: base, log, lent. ARGV: group.
return waiting_for(KEYS[1], KEYS[2], KEYS[3], ARGV[1], micros())
