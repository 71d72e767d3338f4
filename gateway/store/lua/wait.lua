#!lua flags=allow-oom
--@include _record
-- Close submitted messages whose receipt did not come in time.
--
-- Promise: a long message with some parts delivered and none failed ends as delivered, with a part failed as that, else
--   as unknown. Repeat: the record decides.
-- KEYS 1 prefix   ARGV 1 most ids  2-4 retention_s   Returns ids looked at, closed, final states
local now = time_ms()
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local closed = 0
local looked = visit_buckets('wait', 300, tonumber(ARGV[1]), now, function(ids)
  local records = fetch(ids)
  for i = 1, #ids do
    local r = records[i]
    if r and r.state == 's' then
      local channel, state, reason, code = nil, nil, nil, nil
      if has(r.flags, 64) then channel, state, reason, code = last_failure(r.raw) end
      if state then
        finalise(r, state, reason, code, channel, now)
      elseif r.worst == '-' then
        finalise(r, 'K', 'no_receipt', '', last_channel(r), now)
      else
        finalise(r, r.worst, 'parts_missing', '', last_channel(r), now)
      end
      closed = closed + 1
    end
  end
end)
return { looked, closed, finish(now) }
