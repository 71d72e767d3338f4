#!lua flags=allow-oom
--@include _record
-- End messages whose time is over, also while every channel is down.
--
-- Promise: looks at the buckets whose time has come, in order; the record decides. What is in flight is looked at again.
-- KEYS 1 prefix   ARGV 1 most ids  2-4 retention_s   Returns ids looked at, expired, final states
local now = time_ms()
RETENTION[1], RETENTION[2], RETENTION[3] = ARGV[2], ARGV[3], ARGV[4]
local most = tonumber(ARGV[1])
local now_s = floor(now / 1000)
local current = floor(now_s / 15) * 15
local cursor = tonumber(call('GET', P .. 'exp:cursor') or current)
local first = cursor
if cursor > current + 15 then cursor = current end -- the wall clock went back: what is filed since must be found
local looked, expired, again = 0, 0, {}
local steps = 0
while cursor <= now_s and looked < most and steps < 2000 do
  steps = steps + 1
  local ids = call('LPOP', P .. 'exp:' .. cursor, most - looked)
  if ids then
    looked = looked + #ids
    local records = fetch(ids)
    for i = 1, #ids do
      local r = records[i]
      if r then
        if find('qhfrw', r.state, 1, true) then
          if r.expires_at <= now and not (r.state == 'q' and held(r.id)) then
            waiting_delta = waiting_delta - 1
            finalise(r, has(r.flags, 8) and 'K' or 'E', 'expired', '', '', now)
            expired = expired + 1
          else
            again[#again + 1] = r.id
          end
        elseif r.state == 'u' then
          again[#again + 1] = r.id
        end
      end
    end
  end
  if not ids or #ids < most - (looked - #ids) then cursor = cursor + 15 end
end
if #again > 0 then call('RPUSH', P .. 'exp:' .. (floor(now_s / 15) + 2) * 15, unpack(again)) end
if cursor ~= first or call('EXISTS', P .. 'exp:cursor') == 0 then call('SET', P .. 'exp:cursor', cursor) end
return { looked, expired, finish(now) }
