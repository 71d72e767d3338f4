#!lua flags=allow-oom
--@include _record
-- Note what receipts said about ported numbers: a number is not with a carrier any more, or is with one now.
--
-- Promise: what is noted is found by `ported_read` from this moment on, and lapses with its week: ported:<week> is a
--   sorted set by the time at which something was learned, so that no number needs a time to live of its own.
-- Repeat: what was noted within the last hour is not noted again.
-- KEYS 1 prefix   ARGV 1 ms for which it counts; then for each 3 values: msisdn, carrier left, carrier joined ('' not said)
-- Returns the number noted
local WEEK = 604800000
local now = time_ms()
local week = floor(now / WEEK)
local key = P .. 'ported:' .. week
local noted = 0
for i = 2, #ARGV, 3 do
  local fact = ARGV[i] .. US .. ARGV[i + 1] .. US .. ARGV[i + 2]
  local at = call('ZSCORE', key, fact)
  if not at or now - tonumber(at) > 3600000 then
    call('ZADD', key, ms_text(now), fact)
    noted = noted + 1
  end
end
if noted > 0 then call('PEXPIREAT', key, ms_text((week + 1) * WEEK + tonumber(ARGV[1]))) end
return noted
