#!lua flags=allow-oom
--@include _record
-- Close submitted messages whose receipt did not come in time.
--
-- Promise: a long message with some parts delivered and none failed ends as delivered, with a part failed as that, else
--   as unknown. Repeat: the record decides.
-- KEYS 1 prefix   ARGV 1 most ids  2-4 retention_s   Returns ids looked at, closed, final states
local now = time_ms()
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local most = tonumber(ARGV[1])
local now_s = floor(now / 1000)
local current = floor(now_s / 300) * 300
local cursor = tonumber(call('GET', P .. 'wait:cursor') or current)
local first = cursor
if cursor > current + 300 then cursor = current end -- the wall clock went back: what is filed since must be found
local looked, closed, steps = 0, 0, 0
while cursor <= now_s and looked < most and steps < 2000 do
  steps = steps + 1
  local ids = call('LPOP', P .. 'wait:' .. cursor, most - looked)
  if ids then
    looked = looked + #ids
    local records = fetch(ids)
    for i = 1, #ids do
      local r = records[i]
      if r and r.state == 's' then
        if r.worst == '-' then
          finalise(r, 'K', 'no_receipt', '', last_channel(r), now)
        else
          finalise(r, r.worst, 'parts_missing', '', last_channel(r), now)
        end
        closed = closed + 1
      end
    end
  end
  if not ids or #ids < most - (looked - #ids) then cursor = cursor + 300 end
end
if cursor ~= first or call('EXISTS', P .. 'wait:cursor') == 0 then call('SET', P .. 'wait:cursor', cursor) end
return { looked, closed, finish(now) }
