#!lua flags=allow-oom
-- Remove final records whose retention is over, by the buckets that the final states filed them in.
--
-- Promise: only ids from buckets whose time has come. Repeat: goes on with the rest.
-- KEYS 1 prefix   ARGV 1 most ids   Returns ids removed
local P = KEYS[1]
local call = redis.call
local now_s = call('TIME')[1] + 0
local current = math.floor(now_s / 300) * 300
local cursor = tonumber(call('GET', P .. 'gone:cursor') or current)
local first, removed, steps, most = cursor, 0, 0, tonumber(ARGV[1])
if cursor > current + 300 then cursor = current end -- the wall clock went back: what is filed since must be found
while cursor <= now_s and removed < most and steps < 2000 do
  steps = steps + 1
  local ids = call('LPOP', P .. 'gone:' .. cursor, most - removed)
  if ids then
    removed = removed + #ids
    for i = 1, #ids do ids[i] = P .. 'msg:' .. ids[i] end
    call('UNLINK', unpack(ids))
  end
  if removed < most then cursor = cursor + 300 end
end
if cursor ~= first or call('EXISTS', P .. 'gone:cursor') == 0 then call('SET', P .. 'gone:cursor', cursor) end
return removed
