#!lua flags=allow-oom
--@include _record
-- Remove final records whose retention is over, by the buckets that the final states filed them in.
--
-- Promise: only ids from buckets whose time has come. Repeat: goes on with the rest.
-- KEYS 1 prefix   ARGV 1 most ids   Returns ids removed
return visit_buckets('gone', 300, tonumber(ARGV[1]), time_ms(), function(ids)
  for i = 1, #ids do ids[i] = P .. 'msg:' .. ids[i] end
  call('UNLINK', unpack(ids))
end)
