#!lua flags=allow-oom
--@include _record
-- End messages whose time is over, also while every channel is down.
--
-- Promise: looks at the buckets whose time has come, in order; the record decides. What is in flight is looked at again.
-- KEYS 1 prefix   ARGV 1 most ids  2-4 retention_s   Returns ids looked at, expired, final states
local now = time_ms()
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local expired, again = 0, {}
local looked = visit_buckets('exp', 15, tonumber(ARGV[1]), now, function(ids)
  local records = fetch(ids)
  for i = 1, #ids do
    local r = records[i]
    if r and find('qhfrw', r.state, 1, true) then
      if r.expires_at <= now and not (r.state == 'q' and held(r)) then
        waiting_delta = waiting_delta - 1
        finalise(r, has(r.flags, 8) and 'K' or 'E', 'expired', '', '', now)
        expired = expired + 1
      else
        again[#again + 1] = r.id
      end
    elseif r and r.state == 'u' then
      again[#again + 1] = r.id
    end
  end
end)
if #again > 0 then call('RPUSH', P .. 'exp:' .. (floor(now / 15000) + 2) * 15, unpack(again)) end
return { looked, expired, finish(now) }
