#!lua flags=allow-oom
--@include _record
-- Close submitted messages whose receipt did not come in time.
--
-- Promise: a long message with some parts delivered and none failed ends as delivered, with a part failed as that, else
--   as unknown. One that was redelivered is closed when what was accepted last had its time, and as its last receipt
--   said; until then it is filed again. Repeat: the record decides.
-- KEYS 1 prefix   ARGV 1 most ids  2-4 retention_s  5-7 dlr_wait_ms of the categories
-- Returns ids looked at, closed, final states
local now = time_ms()
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local closed, seen = 0, {}
local looked = visit_buckets('wait', 300, tonumber(ARGV[1]), now, function(ids)
  local records = fetch(ids)
  for i = 1, #ids do
    local r = records[i]
    if r and r.state == 's' and not seen[ids[i]] then
      seen[ids[i]] = true -- it may be filed more than once
      local later = has(r.flags, 64) and receipts_end(r.raw, tonumber(ARGV[5 + r.cat])) or 0
      if later > now then
        look_again(r, now, (later - now) / 1000)
      else
        local channel, state, reason, code, permanent = nil, nil, nil, nil, nil
        if r.flags >= 32 then channel, state, reason, code, permanent = last_failure(r.raw) end
        if state then
          finalise(r, state, reason, code, channel, now, nil, permanent)
        elseif r.worst == '-' then
          finalise(r, 'K', 'no_receipt', '', last_channel(r), now)
        else
          if r.worst ~= 'D' then reason, code, permanent = reason_of(r.raw, r.worst) end
          finalise(r, r.worst, reason or 'parts_missing', code or '', last_channel(r), now, nil, permanent)
        end
        closed = closed + 1
      end
    end
  end
end)
return { looked, closed, finish(now) }
