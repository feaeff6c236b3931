-- ARGV: verb, session.
together(ARGV[1])
gone(ARGV[1], ARGV[2])
return 1
