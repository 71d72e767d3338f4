#!lua flags=allow-oom
--@include _record
-- Find submitted messages whose receipt ought to have come, and ask for their redelivery.
--
-- Promise: looks at the buckets whose time has come, in order; the record decides. Repeat: the record says that it was
--   asked.
-- KEYS 1 prefix   ARGV 1 most ids   Returns ids looked at
local now = time_ms()
return visit_buckets('late', 15, tonumber(ARGV[1]), now, function(ids)
  local records = fetch(ids)
  for i = 1, #ids do
    local r = records[i]
    if r and r.state == 's' and r.flags < 32 and r.done == 0 and r.expires_at > now then
      r.flags = r.flags + 32
      write_record(r, r.state_at) -- the time of the submission stands
      call('RPUSH', P .. 'redo', r.id)
    end
  end
end)
